"""What the steps of a run share: device, sizes, ceilings, models, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.gpu.clocks import ClockSampler
from benchmarks.gpu.device import Device
from benchmarks.gpu.report import Report, Section
from benchmarks.gpu.sizes import Sizes

if TYPE_CHECKING:
    from benchmarks.gpu.models import Models


@dataclass(frozen=True)
class Ceilings:
    """Rates of the device, nan where they were not measured.

    Attributes:
        copy: Bytes/s read and written by a large copy.
        matrix: FLOP/s of the fastest large product.
        sustained_matrix: FLOP/s of the same product under lasting load.
        upload: Bytes/s from pinned memory of the host.
    """

    copy: float = float("nan")
    matrix: float = float("nan")
    sustained_matrix: float = float("nan")
    upload: float = float("nan")

    def floor(self, moved_bytes: float, operations: float = 0.0) -> float:
        """Seconds below which nothing gets that moves so many bytes and does so many operations."""
        return max(moved_bytes / self.copy, operations / self.matrix)


class NotHereError(Exception):
    """A step that makes no sense on this device, in one line."""


@dataclass
class Session:
    """What a step gets.

    Attributes:
        deadline: Seconds since the epoch.
        clocks: Sampled while a step runs.
        fa3: A library with FlashAttention-3, if one was given.
        matrix_shape: Rows, inputs and outputs of the product that stands for the matrix rate.
        counts: Pairs that make a run of the wanted length, by shape and workload.
        answers: Log-probabilities of peers, by shape, workload and peer.
    """

    device: Device
    sizes: Sizes
    report: Report
    models: Models
    deadline: float
    ceilings: Ceilings = field(default_factory=Ceilings)
    clocks: ClockSampler = field(default_factory=lambda: ClockSampler(None, "unknown"))
    fa3: Path | None = None
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    answers: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.matrix_shape = self.sizes.matrices[0]

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.time()


@dataclass(frozen=True)
class Step:
    """One entry of the plan.

    Attributes:
        title: What it does.
        seconds: About how long it takes on a GPU; with less time left it is not started.
        group: The name by which `--only` asks for it and its like.
        is_extra: Runs only where it is asked for.
        patience: Seconds on top of three times `seconds`, after which it counts as hanging.
    """

    title: str
    seconds: float
    action: Callable[[Session], Section]
    group: str = ""
    is_extra: bool = False
    patience: float = 60.0

    @property
    def limit(self) -> float:
        """Seconds after which it counts as hanging."""
        return self.patience + 3 * self.seconds
