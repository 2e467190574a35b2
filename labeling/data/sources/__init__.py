"""The files that rows come from, one module a format."""
