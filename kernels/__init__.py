"""Tensors in, tensors out: the operations of the forward pass. Imports torch and triton only."""

if __name__ != "preftree.kernels":
    # Another distribution installs a package `kernels`: a checkout of preftree on sys.path must not stand in for it.
    raise ImportError("this is preftree.kernels, not a package of its own; import preftree.kernels")
