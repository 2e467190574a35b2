"""Tensors through the layers: model, K/V, prefix cache, scoring."""
