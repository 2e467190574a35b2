"""Layers divided into stages for several devices, by what weights take and devices have. Pure Python."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from preftree.engine.config.model_config import ModelConfig


def stage_starts(config: ModelConfig) -> list[int]:
    """Layers at which a stage may begin: neither they nor later ones use keys and values of layers before them."""
    layers = range(config.num_layers)
    return [first for first in layers[1:] if all(config.kv_source(layer) >= first for layer in layers[first:])]


def divide(sizes: Sequence[int], starts: Sequence[int], rooms: Sequence[int]) -> list[range] | None:
    """Consecutive layers for each device, so that the fullest of them is as empty as can be.

    Args:
        sizes: bytes of each layer.
        starts: layers at which a stage may begin, ascending, besides the first.
        rooms: bytes that each device has.

    Returns:
        None where there are fewer places to cut than it takes.
    """
    total = [0, *accumulate(sizes)]
    # By where the stages so far end: how full the fullest is, and where each begins.
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for room in rooms:
        best = {
            end: min(
                (max(fullest, (total[end] - total[first]) / max(1, room)), (*firsts, first))
                for first, (fullest, firsts) in best.items()
                if first < end
            )
            for end in (*starts, len(sizes))
            if min(best, default=end) < end
        }
    if len(sizes) not in best:
        return None
    _, firsts = best[len(sizes)]
    return [range(first, end) for first, end in pairwise((*firsts, len(sizes)))]
