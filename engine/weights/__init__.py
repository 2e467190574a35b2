"""Tensors of a checkpoint: their names, files, and packed layers."""
