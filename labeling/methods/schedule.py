"""Who is compared with whom when not everybody can be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice


def balanced_pairs(size: int, count: int) -> list[tuple[int, int]]:
    """`count` different pairs of 0 to size - 1; size - 1 or more of them connect all.

    The first games of a round robin (the circle method of Kirkman 1850): in a round everybody plays once, but for one
    who rests where `size` is odd. So the numbers of games differ by one at most, where `size` is odd by two. Two rounds
    in a row are one cycle through all players, which is why any size - 1 games from the start connect them.
    """
    return list(islice(_round_robin(size), count))


def _round_robin(size: int) -> Iterator[tuple[int, int]]:
    """All pairs, round by round. The last of an even number stays where it is, the others move around a circle."""
    circle = size - 1 + size % 2
    for turn in range(circle):
        if size % 2 == 0:
            yield turn, size - 1
        for distance in range(1, (circle + 1) // 2):
            yield (turn + distance) % circle, (turn - distance) % circle
