"""Criteria left out by chance, the same for all completions of a prompt, against reward hacking (Rubric Dropout)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from preftree.labeling.principles.sets import PrincipleSet


def dropped(sets: Sequence[PrincipleSet], prompt: str, share: float, seed: int) -> tuple[PrincipleSet, ...]:
    """Each set with about `share` of its statements left out, at least one kept.

    Which they are follows from seed, prompt id and statement alone, whatever else is asked about.
    """
    return tuple(replace(one, statements=_kept(one.statements, prompt, share, seed)) for one in sets)


def _kept(statements: tuple[str, ...], prompt: str, share: float, seed: int) -> tuple[str, ...]:
    drawn = {statement: _uniform(f"{seed}\0{prompt}\0{statement}") for statement in statements}
    return tuple(one for one in statements if drawn[one] >= share) or (max(statements, key=drawn.__getitem__),)


def _uniform(text: str) -> float:
    """In [0, 1)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / 2.0**56
