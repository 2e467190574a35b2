"""Measurements of single kernels."""
