"""Models that several tests share. The embedded one is loaded once a session."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator

# Triton's interpreter multiplies with NumPy. OpenBLAS's products for Haswell and Zen give a row other bits in another
# place of the matrix, these do not; a variable that OpenBLAS reads when NumPy is first imported.
if platform.machine() == "x86_64":
    os.environ.setdefault("OPENBLAS_CORETYPE", "Sandybridge")

import pytest
import torch

# Triton reads this when it is first imported; without a GPU its kernels run in the interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from preftree import Engine, Planner
from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.labeling.judge.judge import Judge


@pytest.fixture(scope="session", autouse=True)
def cpu_by_default() -> Iterator[None]:
    """Tests are of the CPU path, with its bits and its tolerances; those of a GPU ask for one by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("preftree.engine.device.gpu_is_there", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def float32_by_default() -> Iterator[None]:
    """On any processor "auto" is float32, with its bits and its tolerances; tests of other types ask for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("preftree.kernels.isa.default_dtype", lambda: torch.float32)
        yield


@pytest.fixture(scope="session")
def embedded_checkpoint() -> Checkpoint:
    return open_checkpoint("embedded")


@pytest.fixture(scope="session")
def embedded_engine(embedded_checkpoint: Checkpoint) -> Engine:
    return Engine(embedded_checkpoint)


@pytest.fixture
def embedded_scorer(embedded_engine: Engine) -> Callable[..., Judge]:
    """Opens scorers on one engine; `batch_tokens` and `prefix_cache` as in `Judge.load`."""

    def load_judge(batch_tokens: int | None = None, prefix_cache: bool = True) -> Judge:
        checkpoint = embedded_engine.checkpoint
        planner = Planner(checkpoint, batch_tokens=batch_tokens, prefix_cache=prefix_cache)
        embedded_engine.batch_tokens = planner.batch_tokens
        return Judge(checkpoint, planner, embedded_engine, rendering="auto", prefix_cache=prefix_cache)

    return load_judge
