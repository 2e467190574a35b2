"""What the steps of a run share: device, sizes, ceilings, models, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.gpu.device import Device
from benchmarks.gpu.report import Report, Section
from benchmarks.gpu.sizes import Sizes

if TYPE_CHECKING:
    from benchmarks.gpu.models import Models


@dataclass(frozen=True)
class Ceilings:
    """copy: bytes/s read and written by a large copy. matrix: FLOP/s of a large product. nan: not measured."""

    copy: float = float("nan")
    matrix: float = float("nan")

    def floor(self, moved_bytes: float, operations: float = 0.0) -> float:
        """Seconds below which nothing gets that moves so many bytes and does so many operations."""
        return max(moved_bytes / self.copy, operations / self.matrix)


class NotHereError(Exception):
    """A step that makes no sense on this device, in one line."""


@dataclass
class Session:
    """deadline: seconds since the epoch. counts: pairs that make a run of the wanted length, by shape and workload.

    answers: log-probabilities of peers, by shape, workload and peer.
    """

    device: Device
    sizes: Sizes
    report: Report
    models: Models
    deadline: float
    ceilings: Ceilings = field(default_factory=Ceilings)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    answers: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.time()


@dataclass(frozen=True)
class Step:
    """seconds: about how long it takes on a GPU; with less time left it is skipped.

    patience: seconds on top of three times that, after which it counts as hanging.
    """

    title: str
    seconds: float
    action: Callable[[Session], Section]
    patience: float = 60.0

    @property
    def limit(self) -> float:
        """Seconds after which it counts as hanging."""
        return self.patience + 3 * self.seconds
