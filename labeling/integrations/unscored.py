"""A completion without a reward."""

from __future__ import annotations

from typing import NamedTuple


class Unscored(NamedTuple):
    """reason: why it has none; one line."""

    reason: str
