"""What preference instructions leave to chance, and how a preference follows from it (SALMON, Sun et al. 2023).

A draw is a function of seed, pass and row id alone, so that neither other rows nor their order can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from preftree.labeling.principles.drawing import pick, picks, uniforms

Side = Literal["a", "b"]
GEOMETRIC_P, GEOMETRIC_MAX = 0.2, 8


@dataclass(frozen=True)
class Recipe:
    """The laws of what is drawn.

    Attributes:
        weights: of each principle, 0 for one that is never drawn.
        number: how many to draw, or None for a geometric law: 1, 2, 3, ... with probabilities that fall by a fifth
            each, up to 8 or as many as can be drawn.
        negate: probability that a drawn principle is negated.
        noise: that a preference which a principle has decided is flipped.
        seed: of everything.
        rule_noise: that a preference which a rule about texts has decided is flipped.
        refusal_share: that a refusal phrase decides where it can.
        random_order: whether a coin decides which response is shown as A.
    """

    weights: tuple[float, ...]
    number: int | None
    negate: float
    noise: float
    seed: int
    rule_noise: float = 0.25
    refusal_share: float = 0.5
    random_order: bool = False

    @property
    def drawable(self) -> int:
        """How many principles can be drawn."""
        return sum(weight > 0 for weight in self.weights)


@dataclass(frozen=True)
class Draw:
    """What was drawn for a row in a pass.

    Attributes:
        chosen: indices of principles, in the order in which they were drawn.
        negated: of each.
        flipped: by noise, where a principle decides.
        rule_flipped: by noise, where a rule about texts decides.
        refusal_counts: whether a refusal phrase decides where it can.
        swapped: whether the responses are shown the other way round.
    """

    chosen: tuple[int, ...]
    negated: tuple[bool, ...]
    flipped: bool
    rule_flipped: bool
    refusal_counts: bool
    swapped: bool


def draw(recipe: Recipe, turn: int, identity: str) -> Draw:
    """Principles by weight, without replacement, for the row `identity` in pass `turn`.

    Every choice has its own random number, used or not: with more noise more preferences flip, and all else stays.
    Only the two kinds of noise share one, of which a preference has one kind.
    """
    size = len(recipe.weights)
    numbers = uniforms(f"{recipe.seed}/{turn}/{identity}", 4 + 2 * size)
    how_many, noise, *principles = numbers[: 2 + 2 * size]
    refusal, order = numbers[2 + 2 * size :]
    number = recipe.number
    if number is None:
        law = [(1 - GEOMETRIC_P) ** k for k in range(min(GEOMETRIC_MAX, recipe.drawable))]
        number = 1 + pick(law, how_many)
    return Draw(
        chosen=picks(recipe.weights, principles[:number]),
        negated=tuple(uniform < recipe.negate for uniform in principles[size:][:number]),
        flipped=noise < recipe.noise,
        rule_flipped=noise < recipe.rule_noise,
        refusal_counts=refusal < recipe.refusal_share,
        swapped=recipe.random_order and order < 0.5,
    )


def decide(scores: Sequence[float], negated: Sequence[bool]) -> tuple[int, Side] | None:
    """(index, side): the principle with the largest absolute score decides, the first of those that tie; its side is
    the one it prefers, or the other if it is negated. None where all scores are 0. scores: of A over B.
    """
    decider = max(range(len(scores)), key=lambda index: abs(scores[index]))
    if scores[decider] == 0:
        return None
    return decider, "a" if (scores[decider] > 0) != negated[decider] else "b"


def other(side: Side) -> Side:
    """The response that `side` is not."""
    return "b" if side == "a" else "a"
