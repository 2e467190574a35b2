"""What tests ask of an opened input, in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from preftree.labeling.data.dataset import Dataset, DatasetInfo
from preftree.labeling.types import Rejected, Sample


def read(
    path: str | Path, limit: int | None = None, mapping: Sequence[str] = (), repeated: frozenset[int] = frozenset()
) -> Iterator[Sample | Rejected]:
    return Dataset.open(path, mapping).read(limit, repeated)


def info_of(path: str | Path, mapping: Sequence[str] = ()) -> DatasetInfo:
    return Dataset.open(path, mapping).info


def sha256_of(path: str | Path) -> str:
    return Dataset.open(path).sha256
