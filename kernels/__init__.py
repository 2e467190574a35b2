"""Tensors in, tensors out: the operations of the forward pass. Imports torch and triton only."""

# `engine` checks this name: another distribution installs a package called `kernels`, too.
DISTRIBUTION = "preftree"
