"""Rows in and labels out: files on the labelers' side."""
