"""The types that linear layers are quantised to, by name, and which product of fp8 a GPU runs."""

import os
from typing import Literal

Quantized = Literal["int8", "fp8"]
# Of fp8 on a GPU, see `kernels/fp8_linear.py`.
VARIABLE, PRODUCTS = "PREFTREE_FP8_PRODUCT", ("library", "triton")


def product_name() -> str:
    """One of PRODUCTS. Raises ValueError, one line, where the environment asks for another."""
    found = os.environ.get(VARIABLE) or PRODUCTS[0]
    if found not in PRODUCTS:
        raise ValueError(f"{VARIABLE} is {found!r:.100}; use {' or '.join(PRODUCTS)}")
    return found
