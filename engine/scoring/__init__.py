"""Prompts in, label scores out: batches planned on the host, run on the device."""
