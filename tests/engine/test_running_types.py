"""16-bit and 8-bit inference on a CPU: the same bits in any company, and scores near those of float32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from preftree import Engine
from preftree.engine.checkpoint import Checkpoint
from preftree.kernels import isa

# Mean error of a log-probability on random tokens, about five times what is found.
TYPES = {"bfloat16": 0.05, "int8": 1.0}
LABELS = [[330], [365]]


def prompts() -> list[list[int]]:
    """A trunk of two chunks (256 rows) and many tiles, branches in both, and one prompt that shares nothing."""
    random = np.random.default_rng(3)
    trunk = random.integers(100, 40_000, 330).tolist()
    branches = [[*trunk[:kept], *random.integers(100, 40_000, own).tolist()] for kept, own in ((40, 9), (270, 60))]
    return [trunk, *branches, [*trunk[:310], 7, 8], random.integers(100, 40_000, 60).tolist()]


def scores(engine: Engine, ids: list[list[int]]) -> np.ndarray:
    return engine.score(ids, [LABELS] * len(ids), prefix_cache=False).logprob


@pytest.fixture(params=TYPES)
def engine(request: pytest.FixtureRequest, embedded_checkpoint: Checkpoint) -> Iterator[Engine]:
    if request.param == "int8" and not isa.int8_runs():
        pytest.skip(f"int8: {isa.int8_obstacle()}")
    with Engine(embedded_checkpoint, dtype=request.param) as engine:
        yield engine


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_bits_in_any_company(engine: Engine, embedded_engine: Engine, two_threads: None) -> None:
    """Alone, in another order, in small batches, after a cached prefix, on one thread; and near float32."""
    ids = prompts()
    everything = scores(engine, ids)
    assert np.array_equal(scores(engine, ids[::-1])[::-1], everything)
    assert np.array_equal(scores(engine, ids[3:]), everything[3:])
    assert np.array_equal(scores(engine, ids[1:2]), everything[1:2])
    cached = engine.score(ids[:2], [LABELS] * 2).logprob
    assert np.array_equal(cached, everything[:2])
    torch.set_num_threads(1)
    assert np.array_equal(scores(engine, ids), everything)
    engine.batch_tokens = 300
    assert np.array_equal(scores(engine, ids), everything)
    assert np.abs(everything - scores(embedded_engine, ids)).mean() < TYPES[engine.dtype_name]
