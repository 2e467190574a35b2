"""Continuations of prompts, and labels scored after them."""
