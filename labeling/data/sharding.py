"""The rows of an input that a run labels: all of them, the first ones, or one machine's share."""

from __future__ import annotations

import re

from preftree.engine.errors import InputError


def rows_of(total: int, limit: int | None, shard: str | None) -> range:
    """Numbers of rows, from 0. Shards are runs of neighbours, because neighbours often share a prompt.

    Raises InputError for a shard that is none, or that has no rows.
    """
    total = total if limit is None else min(total, limit)
    if shard is None:
        return range(total)
    index, number = parsed(shard)
    mine = range(total * (index - 1) // number, total * index // number)
    if not mine:
        raise InputError(f"--shard {shard} has no rows: there are {total:,} in all; use fewer shards")
    return mine


def parsed(shard: str) -> tuple[int, int]:
    """ "2/3" as (2, 3). Raises InputError."""
    match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", shard, re.ASCII)
    if match is None or int(match[1]) > int(match[2]):
        raise InputError(f"--shard must be i/n, such as 2/3 for the second of three, not {shard}")
    return int(match[1]), int(match[2])
