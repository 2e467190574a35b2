"""Where the tests of Triton kernels run: on a GPU, or else in Triton's interpreter (see `tests/conftest.py`)."""

from __future__ import annotations

import pytest
import torch

IS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if IS_GPU else "cpu")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The interpreter's bfloat16 products are wrong.
PRODUCT_DTYPES = DTYPES if IS_GPU else (torch.float32, torch.float16)
# The interpreter cuts float32 off to bfloat16 where a GPU rounds: twice the error of the last step.
CUT_OFF = None if IS_GPU else torch.bfloat16
# What a result may be off whatever plain PyTorch does. A GPU's float32 products add one term after the other, and its
# exponentials are approximate; cuBLAS splits short sums and hardly errs at all.
FLOOR = 5e-7 if IS_GPU else 1e-7

needs_gpu = pytest.mark.skipif(not IS_GPU, reason="needs a CUDA device")
# Tests that the interpreter can run, too, are tests of the GPU where there is one.
gpu_if_there = [pytest.mark.gpu] if IS_GPU else []


def amid_nan(x: torch.Tensor) -> torch.Tensor:
    """The same values on the device, between rows of NaN: whoever reads past either end gets NaN."""
    buffer = torch.full((len(x) + 2, *x.shape[1:]), float("nan"), dtype=x.dtype, device=DEVICE)
    buffer[1:-1] = x
    return buffer[1:-1]


def assert_as_good_as_plain(ours: torch.Tensor, plain: torch.Tensor, exact: torch.Tensor) -> None:
    """Error at most twice plain PyTorch's. `plain`: the oracle in the inputs' dtype; `exact`: the oracle in float64."""
    factor = 4 if ours.dtype == CUT_OFF else 2
    allowed = factor * (plain.double() - exact).norm() / exact.norm() + FLOOR
    error = (ours.double() - exact).norm() / exact.norm()
    assert ours.shape == exact.shape
    assert torch.isfinite(ours).all()
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


def free_bytes() -> int:
    """Memory that a test on the GPU may take; 0 without one."""
    return torch.cuda.mem_get_info()[0] if IS_GPU else 0
