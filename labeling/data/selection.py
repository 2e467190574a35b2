"""Which rows of an input a run is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preftree.engine.errors import UsageError


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
        Row numbers from 0 in ascending order, a NumPy array of int64.

    Raises:
        UsageError: the shard has no rows.
    """
    import numpy as np

    rows = np.arange(total if limit is None else min(total, limit), dtype=np.int64)
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
