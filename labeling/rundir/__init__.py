"""A run is a directory: a lock, a record, a journal of finished rows, and in the end the labels."""
