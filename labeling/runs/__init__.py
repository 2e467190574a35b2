"""A run: its directory, journal, lock, shards and status."""
