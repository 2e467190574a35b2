"""Labels do not depend on how many threads compute them: a worker with fewer cores gives the bits of one with many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from preftree import Engine
from preftree.engine import arithmetic
from preftree.kernels import isa
from tests.models import SMALL_CONFIG, write_model
from tests.processes import printed

TYPES = ("float32", "bfloat16", "int8")
THREADS = (1, 2, 3, 4)
LABELS = [[5], [6], [7, 8]]


@pytest.fixture(autouse=True)
def threads_again() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def prompts(longest: int) -> list[list[int]]:
    """Branches at several depths, neighbours and a prompt that begins another."""
    draw = np.random.default_rng(0)
    shared = draw.integers(10, 200, longest // 2).tolist()
    own = [draw.integers(10, 200, 1 + longest * place // 24).tolist() for place in range(12)]
    return [shared + ids for ids in own] + [shared[:20] + ids for ids in own[::3]] + [shared]


def check_runs(dtype: str) -> None:
    if dtype == "int8" and not isa.int8_runs():
        pytest.skip(f"int8: {isa.int8_obstacle()}")


def check_bits(model: str, dtype: str, longest: int, packings: tuple[int, ...]) -> None:
    """On any number of threads, in batches of any size, with and without the prefix cache."""
    asked = prompts(longest)
    labels = [LABELS] * len(asked)
    expected = None
    for threads in THREADS:
        torch.set_num_threads(threads)
        with Engine.load(model, device="cpu", dtype=dtype) as engine:
            for batch_tokens in (engine.batch_tokens, *packings):
                engine.batch_tokens = batch_tokens
                found = engine.score(asked, labels, prefix_cache=batch_tokens % 2 == 0)
                bits = np.asarray(found.logprob).tobytes() + np.asarray(found.label_mass).tobytes()
                expected = expected or bits
                assert bits == expected, f"{threads} threads, {batch_tokens} tokens a batch"


@pytest.mark.parametrize("dtype", TYPES)
def test_small_model(dtype: str, tmp_path: Path) -> None:
    """Catches sums that are split among threads, and chunks whose borders show in labels."""
    check_runs(dtype)
    check_bits(str(write_model(tmp_path, SMALL_CONFIG)), dtype, 400, (131, 1001))


@pytest.mark.soak
@pytest.mark.parametrize("dtype", TYPES)
def test_embedded_model(dtype: str) -> None:
    """Catches the same in matrices of a size at which libraries change their ways."""
    check_runs(dtype)
    check_bits("embedded", dtype, 160, (131,))


@pytest.mark.parametrize("dtype", TYPES)
def test_the_fingerprint_of_the_arithmetic(dtype: str) -> None:
    """Catches workers of one kind of machine that would refuse each other's answers."""
    check_runs(dtype)
    found = set()
    for threads in THREADS:
        torch.set_num_threads(threads)
        found.add(arithmetic.fingerprint("cpu", dtype))
    assert len(found) == 1


def test_threads_that_the_environment_sets(tmp_path: Path) -> None:
    """Catches a library that looks at the number of threads when it is loaded, and not later."""
    code = "from preftree.engine.arithmetic import fingerprint; print(*(fingerprint('cpu', t) for t in sys.argv[1:]))"
    found = set()
    for threads in ("1", "3"):
        found.add(printed("-c", f"import sys; {code}", *TYPES[:2], own={"OMP_NUM_THREADS": threads}))
    assert len(found) == 1
