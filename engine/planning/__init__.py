"""Prompts in, work out: trie, batches, tiles, paths. NumPy until the plan is frozen into tensors."""
