"""The rows of an input that a run labels: all of them, the first ones, or one machine's share."""

from __future__ import annotations

from preftree.engine.errors import UsageError


def rows_of(total: int, limit: int | None, shard: str | None) -> range:
    """Numbers of rows, from 0. Shards are runs of neighbours, because neighbours often share a prompt.

    Raises UsageError for a shard that has no rows.
    """
    total = total if limit is None else min(total, limit)
    if shard is None:
        return range(total)
    index, number = parsed(shard)
    mine = range(total * (index - 1) // number, total * index // number)
    if not mine:
        raise UsageError(f"--shard {shard} has no rows: there are {total:,} in all; use fewer shards")
    return mine


def parsed(shard: str) -> tuple[int, int]:
    """ "2/3" as (2, 3)."""
    index, number = shard.split("/")
    return int(index), int(number)
