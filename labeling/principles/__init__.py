"""Principles: what a judge is told to look at."""
