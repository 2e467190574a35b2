"""How good a reward model is on prompts that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preftree.labeling.report.intervals import interval_text, wilson_interval
from preftree.labeling.terminal import count
from preftree.labeling.training.rows import Rows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """A share of pairs.

    Attributes:
        right: pairs in which the reward prefers the same response.
        pairs: all that have a preference.
    """

    right: int
    pairs: int

    def record(self) -> dict[str, Any]:
        """With the 95% interval of Wilson."""
        return asdict(self) | {"share": self.right / self.pairs, "interval": wilson_interval(self.right, self.pairs)}

    def __str__(self) -> str:
        return f"{self.right / self.pairs:.1%} of {count(self.pairs, 'pair')}, {interval_text(self.right, self.pairs)}"


@dataclass(frozen=True)
class HeldOut:
    """Figures over held-out pairs, with D the reward of one response minus that of the other, and s the sigmoid.

    Attributes:
        judge: agreement with the judge, ties left out; None without pairs.
        gold: agreement with gold; None without gold.
        cross_entropy: mean of -p log s(D) - (1-p) log s(-D), in nats.
        floor: its minimum, the mean entropy of the judge's labels.
        distance: mean of |s(D) - p|.
        mean: of the rewards.
        std: of the rewards.
    """

    judge: Agreement | None
    gold: Agreement | None
    cross_entropy: float
    floor: float
    distance: float
    mean: float
    std: float

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal and the model card."""
        found = [("agreement with the judge", str(self.judge))] if self.judge else []
        found += [("agreement with gold", str(self.gold))] if self.gold else []
        excess = f"{self.cross_entropy:.4f} nats; the judge's entropy, its minimum, is {self.floor:.4f}"
        return [
            *found,
            ("cross-entropy", excess),
            ("mean distance from p", f"{self.distance:.3f}, of the sigmoid of the difference"),
            ("rewards", f"mean {self.mean:.4f}, standard deviation {self.std:.4f}"),
        ]

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        shares = {name: one.record() if one else None for name, one in (("judge", self.judge), ("gold", self.gold))}
        return {"agreement": shares} | {
            name: getattr(self, name) for name in ("cross_entropy", "floor", "distance", "mean", "std")
        }


def held_out_figures(rows: Rows, rewards: Sequence[float]) -> HeldOut:
    """rewards: of `rows.texts()`."""
    every = np.asarray(rewards, np.float64)
    better, worse = every[::2], every[1::2]
    difference, p = better - worse, np.asarray(rows.p)
    return HeldOut(
        judge=_agreement((difference > 0)[p > 0.5]),
        gold=_agreement(
            np.array([(one > 0) == gold for one, gold in zip(difference, rows.gold, strict=True) if gold is not None])
        ),
        cross_entropy=float((_softplus(-difference) + (1 - p) * difference).mean()),
        floor=float(_entropy(p).mean()),
        distance=float(abs(1 / (1 + np.exp(-difference)) - p).mean()),
        mean=float(every.mean()),
        std=float(every.std()),
    )


def _agreement(right: NDArray[np.bool_]) -> Agreement | None:
    return Agreement(int(right.sum()), len(right)) if len(right) else None


def _softplus(x: Floats) -> Floats:
    """-log s(-x)."""
    return np.logaddexp(0, x)


def _entropy(p: Floats) -> Floats:
    """In nats; p from 0.5 to 1."""
    rest = 1 - p
    return -(p * np.log(p) + rest * np.log(np.where(rest > 0, rest, 1)))
