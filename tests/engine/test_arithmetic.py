"""The fingerprint of a process's arithmetic: the same twice, and another where bits are."""

from __future__ import annotations

import pytest
import torch

from preftree.engine import arithmetic
from preftree.engine.arithmetic import fingerprint
from preftree.kernels import isa
from tests.processes import answered, printed
from tests.stopwatch import within


def elsewhere(*dtypes: str, **variables: str) -> dict[str, str]:
    """The fingerprints of these types, one after the other in another process."""
    code = (
        "import json, sys\nfrom preftree.engine.arithmetic import fingerprint\n"
        "print(json.dumps({dtype: fingerprint('cpu', dtype) for dtype in sys.argv[1:]}))"
    )
    found: dict[str, str] = answered("-c", code, *dtypes, own=variables)
    return found


def bits_of_torch(**variables: str) -> str:
    """Those of a product and a softmax, in another process."""
    code = (
        "import hashlib, torch\ntorch.manual_seed(0)\nx = torch.randn(128, 576) @ torch.randn(576, 512)\n"
        "print(hashlib.sha256(x.numpy().tobytes() + x.softmax(-1).numpy().tobytes()).hexdigest())"
    )
    return printed("-c", code, own=variables)


def test_the_same_in_every_process() -> None:
    """Catches a fingerprint of addresses, seeds or what ran before: no run could be resumed."""
    found = elsewhere("bfloat16", "float32")
    for dtype in ("float32", "bfloat16"):
        assert fingerprint("cpu", dtype) == found[dtype]
        assert len(found[dtype]) == 16


def test_the_same_in_int8() -> None:
    """In processes of their own: activations are what "auto" stands for, which is float32 in tests."""
    if isa.int8_obstacle():
        pytest.skip("no int8 here")
    found = elsewhere("float32", "int8")
    assert elsewhere("int8")["int8"] == found["int8"] != found["float32"]


def test_types_differ() -> None:
    """Catches a fingerprint that does not go through the operations of the type."""
    assert fingerprint("cpu", "float32") != fingerprint("cpu", "bfloat16")


@pytest.mark.parametrize(
    "variable",
    [
        "ATEN_CPU_CAPABILITY=avx2",
        pytest.param("ATEN_CPU_CAPABILITY=default", marks=pytest.mark.soak),
        "MKL_CBWR=AVX2",
        pytest.param("MKL_CBWR=COMPATIBLE", marks=pytest.mark.soak),
        "ONEDNN_MAX_CPU_ISA=AVX2",
    ],
)
def test_other_instructions(variable: str) -> None:
    """Catches labels of two sets of instructions in one run."""
    name, _, value = variable.partition("=")
    if name != "ONEDNN_MAX_CPU_ISA" and bits_of_torch(**{name: value}) == bits_of_torch():
        pytest.skip("on this processor, or in this torch, nothing is hidden by it")
    if isa.instructions("float32") != "avx512":
        pytest.skip("nothing is hidden by it")
    assert elsewhere("float32", **{name: value})["float32"] != fingerprint("cpu", "float32")


@pytest.mark.parametrize("limit", [pytest.param("AVX512_CORE", marks=pytest.mark.soak), "AVX512_CORE_BF16"])
def test_another_instruction_set_of_onednn(limit: str) -> None:
    """Catches the same for types that have instructions of their own."""
    if not isa.runs("amx"):
        pytest.skip("nothing is hidden by it")
    assert elsewhere("bfloat16", ONEDNN_MAX_CPU_ISA=limit)["bfloat16"] != fingerprint("cpu", "bfloat16")


def test_threads_are_computed_anew() -> None:
    """Catches a number of threads whose bits are those of another, taken from a cache."""
    threads = torch.get_num_threads()
    try:
        arithmetic._computed.cache_clear()
        fingerprint("cpu", "float32")
        torch.set_num_threads(threads + 1)
        fingerprint("cpu", "float32")
        assert arithmetic._computed.cache_info().misses == 2
    finally:
        torch.set_num_threads(threads)


def test_it_is_quick() -> None:
    """Catches a start that waits: the bound is for a busy machine, a tenth of it is usual."""
    arithmetic._computed.cache_clear()
    with within(4):
        fingerprint("cpu", "float32")


def test_none_of_a_gpu() -> None:
    assert fingerprint("cuda:0", "bfloat16") is None
