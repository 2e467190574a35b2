"""The hyperbolic tangent for the kernels: Triton's own library of functions is not there in its interpreter."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def tanh(x):  # type: ignore[no-untyped-def]
    """Within some units in the last place of float32, on both sides of 0.625 (after Cephes' tanhf)."""
    square = x * x
    small = -5.70498872745e-3
    small = small * square + 2.06390887954e-2
    small = small * square - 5.37397155531e-2
    small = small * square + 1.33314422036e-1
    small = small * square - 3.33332819422e-1
    size = tl.abs(x)
    large = 1.0 - 2.0 / (tl.exp2(size * (2.0 * LOG2_E)) + 1.0)
    return tl.where(size < 0.625, small * square * x + x, tl.where(x < 0, -large, large))
