"""How SALMON's released code makes preferences of scores, written from its description, one row after the other.

Nothing is shared with `preftree instructions`: other random numbers, languages that are known, plain loops.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from typing import Any

PHRASE, MARKER, SHORTEST = "As an AI language model", "###", 16


@dataclass(frozen=True)
class Judged:
    """A pair with its scores, and the languages of prompt, A and B.

    scores: by principle, with A shown first and with B shown first.
    """

    prompt: str
    a: str
    b: str
    languages: tuple[str, str, str]
    scores: dict[str, tuple[float, float]]


def aggregated(pairs: list[Judged], names: list[str], seed: int, passes: int = 4) -> list[dict[str, Any]]:
    """Rows with the columns of `instructions` that do not show what is fixed."""
    chance = random.Random(seed)
    pairs = [pair for pair in pairs if len(pair.a) >= SHORTEST and len(pair.b) >= SHORTEST]
    spread = {name: statistics.pvariance([score for pair in pairs for score in pair.scores[name]]) for name in names}
    rows = [_row(pair, names, spread, chance) for _ in range(passes) for pair in pairs]
    return [row for row in rows if row is not None]


def _row(pair: Judged, names: list[str], spread: dict[str, float], chance: random.Random) -> dict[str, Any] | None:
    number = 9
    while number > min(8, len(names)):
        number = 1
        while chance.random() >= 0.2:
            number += 1
    drawn = chance.sample(names, number)
    scores, signs = [], []
    for name in drawn:
        first, second = pair.scores[name]
        agree = first * second > 0
        scores.append((first + second) / 2 / spread[name] if agree else 0.0)
        signs.append(chance.choice((-1, 1)))
    strongest = max(range(number), key=lambda index: abs(scores[index]))
    if scores[strongest] == 0:
        return None
    preference = 1 if scores[strongest] * signs[strongest] > 0 else 2
    rule = None
    a, b = (text.split(MARKER)[0] for text in (pair.a, pair.b))
    if (PHRASE in a) != (PHRASE in b) and chance.random() < 0.5:
        preference, rule = (2 if PHRASE in a else 1), "refusal phrase"
    asked, of_a, of_b = pair.languages
    if asked != of_a and asked != of_b:
        return None
    if of_a != of_b:
        preference, rule = (1 if asked == of_a else 2), "language"
    flipped = chance.random() < (0.25 if rule else 0.1)
    if flipped:
        preference = 3 - preference
    swapped = chance.random() < 0.5
    if swapped:
        preference, scores = 3 - preference, [-score for score in scores]
    return {
        "names": drawn,
        "signs": signs,
        "scores": scores,
        "decided_by": None if rule else drawn[strongest],
        "rule": rule,
        "chosen": "ab"[preference - 1],
        "flipped": flipped,
        "swapped": swapped,
    }
