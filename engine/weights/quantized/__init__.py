"""Quantised checkpoints: how each format stores a matrix, and its values back in float32."""
