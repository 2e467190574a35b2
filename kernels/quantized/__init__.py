"""Linear layers in 8 bits: what weights and rows become, and the products of a CPU."""
