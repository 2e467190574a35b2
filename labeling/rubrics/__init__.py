"""Rubrics: weighted yes/no criteria that a response is judged by."""
