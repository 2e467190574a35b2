"""Which rows of an input a run is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import UsageError

_WINDOW = 1 << 16


@dataclass(frozen=True)
class RowRange:
    """The numbers of rows that follow on one another: what is used of a NumPy array of them, in no memory."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, places: Any) -> Any:
        if isinstance(places, slice):
            numbers = range(self.start, self.stop)[places]
            return RowRange(numbers.start, numbers.stop)
        return range(self.start, self.stop)[places] if isinstance(places, int) else self.__array__()[places]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        import numpy as np

        return np.arange(self.start, self.stop, dtype=dtype or np.int64)

    def tolist(self) -> list[int]:
        return list(range(self.start, self.stop))

    def searchsorted(self, numbers: Any, side: str = "left") -> Any:
        """As of an array."""
        import numpy as np

        return np.clip(np.asarray(numbers) + (side == "right") - self.start, 0, len(self))


def windows_of(rows: Any) -> Iterator[Any]:
    """Row numbers as NumPy arrays, a few at a time. rows: of `rows_of`."""
    import numpy as np

    for start in range(0, len(rows), _WINDOW):
        yield np.asarray(rows[start : start + _WINDOW])


def count_outside(rows: Any, others: Any) -> int:
    """How many of `rows` are not among `others`, both of `rows_of`."""
    import numpy as np

    if isinstance(others, RowRange):
        ends = np.diff(rows.searchsorted((others.start, others.stop)))
        return len(rows) - int(ends[0])
    return sum(int(np.isin(window, others, invert=True).sum()) for window in windows_of(rows))


def rows_of(
    total: int, limit: int | None = None, sample: int | None = None, seed: int = 0, shard: str | None = None
) -> Any:
    """Select rows of an input.

    Args:
        total: rows in the input.
        limit: the first so many only.
        sample: so many of these, drawn. A larger sample of one seed contains the smaller one.
        seed: of the sample.
        shard: "I/N", the I-th of N parts of what is left. Shards are runs of neighbours, which often share a prompt.

    Returns:
        Row numbers from 0 in ascending order: a `RowRange`, or of a sample a NumPy array of int64.

    Raises:
        UsageError: the shard has no rows.
    """
    import numpy as np

    rows: Any = RowRange(0, total if limit is None else min(total, limit))
    if sample is not None and sample < len(rows):
        # The raw output of a bit generator is the same in all versions of NumPy; what Generator makes of it is not.
        keys = np.random.PCG64(seed).random_raw(len(rows))
        rows = np.sort(np.argsort(keys, kind="stable")[:sample])
    if shard is None:
        return rows
    index, number = parse_shard(shard)
    mine = rows[len(rows) * (index - 1) // number : len(rows) * index // number]
    if not len(mine):
        raise UsageError(f"--shard {shard} has no rows: there are {len(rows):,} in all; use fewer shards")
    return mine


def selection_of(options: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """What `rows_of` takes besides `total`. options: of a run.json, or the variables of an Options object."""
    return {name: options[name] for name in ("limit", "sample", "seed", "shard") if name in options} | changes


def parse_shard(shard: str) -> tuple[int, int]:
    """ "2/3" as (2, 3)."""
    index, number = shard.split("/")
    return int(index), int(number)
