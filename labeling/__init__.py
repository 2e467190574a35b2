"""Pairs in, labels out: prompts, methods, data. Reaches the engine through `preftree.labeling.judge` alone."""
