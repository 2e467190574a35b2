"""The switches of cuBLAS while the engine multiplies, and afterwards. torch keeps them without a GPU, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from preftree.kernels import cuda

# Its attributes are made at run time.
BACKENDS: Any = torch.backends
REDUCED_SUMS = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")
# (reduced precision, split-K); torch knows no fourth.
PAIRS = [(True, True), (False, True), (False, False)]


def pairs() -> list[tuple[bool, bool]]:
    matmul = torch.backends.cuda.matmul
    return [(getattr(matmul, name), getattr(matmul, f"{name}_split_k")) for name in REDUCED_SUMS]


def set_pairs(*values: tuple[bool, bool]) -> None:
    for name, value in zip(REDUCED_SUMS, values, strict=True):
        setattr(torch.backends.cuda.matmul, name, value)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before, accumulation = pairs(), torch.backends.cuda.matmul.allow_fp16_accumulation
    yield
    set_pairs(*before)
    torch.backends.cuda.matmul.allow_fp16_accumulation = accumulation
    torch.set_float32_matmul_precision("highest")
    BACKENDS.fp32_precision = "none"
    for backend in (BACKENDS.cuda.matmul, BACKENDS.mkldnn.matmul):
        backend.fp32_precision = "none"


@pytest.mark.parametrize("fp16", PAIRS)
@pytest.mark.parametrize("bf16", PAIRS)
def test_sums_are_wide_and_split_k_stays(bf16: tuple[bool, bool], fp16: tuple[bool, bool]) -> None:
    """torch takes a bool for a pair that allows split-K: whoever saves a bool loses (False, False)."""
    set_pairs(bf16, fp16)
    with cuda.exact_products():
        assert pairs() == [(False, bf16[1]), (False, fp16[1])]
    assert pairs() == [bf16, fp16]


@pytest.mark.parametrize("is_allowed", [False, True])
def test_fp16_is_not_summed_in_fp16(is_allowed: bool) -> None:
    matmul = torch.backends.cuda.matmul
    matmul.allow_fp16_accumulation = is_allowed
    with cuda.exact_products():
        assert not matmul.allow_fp16_accumulation
    assert matmul.allow_fp16_accumulation == is_allowed


def test_an_error_leaves_nothing_switched() -> None:
    set_pairs((True, True), (True, True))
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(KeyError), cuda.exact_products():
        raise KeyError
    assert pairs() == [(True, True), (True, True)]
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.parametrize("precision", ["none", "ieee", "tf32"])
def test_no_tf32(precision: str) -> None:
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = precision
    with cuda.exact_products(), cuda.exact_products():
        assert matmul.fp32_precision != "tf32"
    assert matmul.fp32_precision == precision


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_no_tf32_where_the_older_switch_asks_for_it(precision: str) -> None:
    """torch refuses to tell what is set where the older and the newer switch contradict each other."""
    torch.set_float32_matmul_precision(precision)
    before = torch.backends.cuda.matmul.allow_tf32
    with cuda.exact_products():
        assert torch.backends.cuda.matmul.fp32_precision != "tf32"
    assert torch.backends.cuda.matmul.allow_tf32 == before
    assert torch.get_float32_matmul_precision() == precision


def test_tf32_of_all_backends_is_still_inherited_afterwards() -> None:
    """Catches that it stays on for matrix products alone when it is switched off for everything."""
    BACKENDS.fp32_precision = "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    with cuda.exact_products():
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    BACKENDS.fp32_precision = "none"
    assert torch.backends.cuda.matmul.fp32_precision == "none"
