"""A decode step on the host: one new row for every sequence, and the path that each of them attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from preftree.kernels.tiles import StepGroup

# A row looks at a multiple of so many keys, whatever rows are beside it: its bits are a function of its own path.
STEP_KEYS = 64
# Instead of a token: the one that the sequence's row of the step before drew, which the host has not read yet.
ON_DEVICE = -1


@dataclass(frozen=True)
class StepRow:
    """One row of a step.

    Attributes:
        token: what is run, or ON_DEVICE.
        depth: its position.
        path: [at least depth + 1] int64, the K/V slot of every depth; the row's own K/V goes to path[depth].
    """

    token: int
    depth: int
    path: np.ndarray


@dataclass(frozen=True)
class Step:
    """tokens, depths, slots: [padded rows] int64; rows that fill a block write the scratch slot. groups: attention
    tiles of the real rows. places: [real rows] int64, where in `tokens` each row came to be."""

    tokens: torch.Tensor
    depths: torch.Tensor
    slots: torch.Tensor
    groups: tuple[StepGroup, ...]
    places: np.ndarray

    @classmethod
    def build(cls, rows: Sequence[StepRow], block: int, scratch: int) -> Step:
        """Rows that look at equally many keys come to lie side by side."""
        order = sorted(range(len(rows)), key=lambda place: rows[place].depth)
        ordered = [rows[place] for place in order]
        padded = -(-len(rows) // block) * block
        tokens, depths, slots = (np.full(padded, fill) for fill in (0, 0, scratch))
        tokens[: len(rows)] = [row.token for row in ordered]
        depths[: len(rows)] = [row.depth for row in ordered]
        slots[: len(rows)] = [row.path[row.depth] for row in ordered]
        places = np.empty(len(rows), dtype=np.int64)
        places[order] = np.arange(len(rows))
        return cls(
            tokens=torch.from_numpy(tokens),
            depths=torch.from_numpy(depths),
            slots=torch.from_numpy(slots),
            groups=tuple(_groups(ordered)),
            places=places,
        )


def _groups(rows: Sequence[StepRow]) -> list[StepGroup]:
    groups = []
    first = 0
    for blocks, members in groupby(rows, key=lambda row: row.depth // STEP_KEYS + 1):
        own = list(members)
        keys = blocks * STEP_KEYS
        paths = np.stack([_padded(row.path[: row.depth + 1], keys) for row in own])
        depths = np.array([row.depth for row in own])
        groups.append(StepGroup(first, torch.from_numpy(paths), torch.from_numpy(depths), STEP_KEYS))
        first += len(own)
    return groups


def _padded(path: np.ndarray, length: int) -> np.ndarray:
    """Depths beyond the row repeat the slot of depth 0, which a mask hides."""
    padded = np.full(length, path[0])
    padded[: len(path)] = path
    return padded
