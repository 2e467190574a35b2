"""A run: its directory, lock, rows that are asked about, labels that follow, shards and status."""
