"""Pairs in, labels out: prompts, methods, data. Reaches the engine through `labeling.scorer` alone."""
