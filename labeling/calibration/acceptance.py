"""Which labels may be accepted, so that at most a share of them is wrong: a threshold on confidence, with a guarantee.

A label's confidence is max(p, 1 - p), and labels from a threshold on are accepted. Whether a threshold's error is too
high is tested on gold, from strict thresholds to lax ones (Jung et al. 2024, arXiv 2407.18370): it is not, where the
Clopper-Pearson bound of the error among the gold pairs above it is at most `max_error`. With a probability of
`confidence`, no threshold passes whose error is too high, because

- thresholds, and where walks begin, follow from the confidences of labels without gold: errors choose neither, so that
  the errors above any threshold are binomial, given the number of gold pairs there;
- a test has the level that its walk brought along, and one that fails ends the walk. Two walks share 1 - `confidence`
  (the fallback procedure, Wiens 2003), because a single one would begin where few pairs decide, and end with one error.
  If none of the thresholds before it with too high an error has passed, one is reached with no more than the shares of
  the walks that began since, and these add up to 1 - `confidence`. Nothing is assumed of how error and confidence go
  together. Thresholds with too few pairs to pass are before the first walk, which takes nothing from the others;
- calibration takes no part. Its curve rises, so that it keeps the order of confidences; thresholds are on what the
  judge said, and no gold pair is used twice.

It holds for pairs that are drawn as the gold pairs were. Equal confidences are accepted together, and ties never.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from preftree.labeling.calibration.binomial import tail, upper_bound
from preftree.labeling.report.arrays import Floats, Mask
from preftree.labeling.report.intervals import interval_text, wilson_interval
from preftree.labeling.terminal import count

# Thresholds end every fortieth of the labels: few tests, each of which may fail.
_STEPS = 40
# The share of 1 - confidence that an early walk has. It begins where its first test has room for an error: at so many
# times the pairs that it would take without one.
_EARLY, _ROOM = 0.25, 2
# Fewer labels without gold say too little of where thresholds are.
_MIN_ORDER = 100
# An estimate is of a chance of four in five; one beyond so many pairs is no plan.
_POWER = NormalDist().inv_cdf(0.8)
_MOST_PAIRS = 10**6


@dataclass(frozen=True)
class Acceptance:
    """The threshold that was found.

    Attributes:
        max_error: the share of accepted labels that may be wrong.
        confidence: the probability that no larger share is.
        threshold: of the judge's confidence, before calibration; None where nothing can be accepted.
        gold_pairs: all of them.
        accepted_gold: those from the threshold on.
        errors: verdicts among these that are not that of gold.
        bound: of their share, one-sided, at `confidence`; None without threshold.
        labels: of pairs, with gold or without.
        accepted_labels: those from the threshold on.
        ordered_by_gold: whether thresholds are confidences of the gold pairs themselves, for want of other labels.
        enough: where nothing can be accepted, the gold pairs that would do if no verdict were wrong.
        estimate: the gold pairs that would do with errors as frequent as they are; None where no number would.
    """

    max_error: float
    confidence: float
    threshold: float | None
    gold_pairs: int
    accepted_gold: int
    errors: int
    bound: float | None
    labels: int
    accepted_labels: int
    ordered_by_gold: bool
    enough: int
    estimate: int | None

    def accepts(self, p_a: float) -> bool:
        """Whether a label may be accepted. p_a: what the judge said, before calibration."""
        return self.threshold is not None and max(p_a, 1.0 - p_a) >= self.threshold

    def record(self) -> dict[str, Any]:
        """As JSON, with shares and their 95% intervals."""
        shares: dict[str, Any] = {}
        for name, accepted, of in self._coverages():
            shares[f"{name}_coverage"] = accepted / of
            shares[f"{name}_coverage_interval"] = list(wilson_interval(accepted, of))
        return asdict(self) | shares

    @classmethod
    def recorded(cls, record: Any) -> Acceptance:
        """From `record`. KeyError, TypeError or ValueError for anything else."""
        found = cls(**{name: record[name] for name in cls.__dataclass_fields__})
        if found.threshold is not None and not 0.5 < float(found.threshold) <= 1:
            raise ValueError(f"threshold {found.threshold}")
        return found

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal."""
        asked = f"error at most {self.max_error:g} at confidence {self.confidence:g}"
        if self.threshold is None:
            return [("accepted", f"no label, for {asked}"), ("gold pairs needed", self._needed())]
        lines = [("accepted", f"labels of a confidence from {self.threshold:.6g} on: {asked}")]
        lines += [
            (f"coverage of {name}", f"{accepted / of:.1%} of {of:,} ({interval_text(accepted, of)})")
            for name, accepted, of in self._coverages()
        ]
        wrong = f"{count(self.errors, 'error')} among {count(self.accepted_gold, 'gold pair')}"
        bound = f"at most {self.bound:.1%} in truth, at confidence {self.confidence:g}"
        lines.append(("error", f"{wrong}; {bound}"))
        if self.ordered_by_gold:
            few = f"fewer than {_MIN_ORDER} labels lack gold: it holds if surer labels are not more often wrong"
            lines.append(("warning", few))
        return lines

    def _coverages(self) -> Iterator[tuple[str, int, int]]:
        yield "gold", self.accepted_gold, self.gold_pairs
        yield "labels", self.accepted_labels, self.labels

    def _needed(self) -> str:
        there = f"there are {self.gold_pairs:,}"
        least = f"{self.enough:,} without an error in the surest labels ({there})"
        if self.estimate is None:
            return f"{least}; as often as they are wrong here, no number of gold pairs would do: use another judge"
        return f"{least}; about {self.estimate:,} as often as they are wrong here"


class _Above(NamedTuple):
    """The gold pairs from a threshold on."""

    threshold: float
    share: float  # of the labels, from there on
    pairs: int
    errors: int


def accept(confidence: Floats, right: Mask, others: Floats, max_error: float, guarantee: float) -> Acceptance:
    """The laxest threshold that passes.

    Args:
        confidence: of gold pairs, one or more.
        right: whether the verdict is that of gold; never for a tie.
        others: confidences of labels without gold, which the threshold is for.
        max_error: above 0 and below 1.
        guarantee: the probability that the error is not above it, above 0 and below 1.
    """
    delta = 1.0 - guarantee
    by_gold = len(others) < _MIN_ORDER
    above = _above(confidence, right, np.concatenate([confidence, others]) if by_gold else others)
    found = _walked(above, _begins([one.share for one in above], len(confidence), max_error, delta), max_error)
    accepted = int(np.count_nonzero(others >= found.threshold)) if found else 0
    return Acceptance(
        max_error,
        guarantee,
        found.threshold if found else None,
        len(confidence),
        found.pairs if found else 0,
        found.errors if found else 0,
        upper_bound(found.errors, found.pairs, delta) if found else None,
        len(confidence) + len(others),
        accepted + (found.pairs if found else 0),
        by_gold,
        _enough(max_error, delta),
        None if found else _estimate(above, max_error, delta),
    )


def _above(confidence: Floats, right: Mask, order: Floats) -> list[_Above]:
    """Of each threshold, from strict to lax; none of 0.5, which is a tie."""
    falling = np.sort(order)[::-1]
    places = -(-np.arange(1, _STEPS + 1) * len(order) // _STEPS) - 1
    thresholds = np.unique(falling[places])[::-1]
    thresholds = thresholds[thresholds > 0.5]
    surest = np.argsort(-confidence, kind="stable")
    errors = np.concatenate([[0], np.cumsum(~right[surest])])
    pairs, labels = (np.searchsorted(-of, -thresholds, side="right") for of in (confidence[surest], falling))
    columns = (thresholds, labels / len(order), pairs, errors[pairs])
    return [_Above(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _begins(shares: list[float], gold_pairs: int, max_error: float, delta: float) -> dict[int, float]:
    """The thresholds at which walks begin, and the level of each, by the gold pairs that are to be expected there.

    With few gold pairs there is one walk, of all of delta: a part would be too little.
    """
    early = _ROOM * _enough(max_error, _EARLY * delta) / gold_pairs
    wanted = [(early, _EARLY * delta), (0.5, (1 - _EARLY) * delta)]
    if early >= 0.5:
        alone = _enough(max_error, delta)
        wanted = [(min(_ROOM * alone, (alone + gold_pairs) / 2) / gold_pairs, delta)]
    found: dict[int, float] = {}
    for least, level in wanted:
        # Shares rise; one that is never reached begins at the last.
        place = next((place for place, share in enumerate(shares) if share >= least), len(shares) - 1)
        found[place] = found.get(place, 0.0) + level
    return found


def _walked(above: list[_Above], begins: dict[int, float], max_error: float) -> _Above | None:
    """The last threshold that passes."""
    found, level = None, 0.0
    for place, one in enumerate(above):
        level += begins.get(place, 0.0)
        if level and tail(one.errors, one.pairs, max_error) <= level:
            found = one
        else:
            level = 0.0
    return found


def _enough(max_error: float, level: float) -> int:
    """The fewest pairs that pass without an error: (1 - max_error)^n <= level."""
    return math.ceil(math.log(level) / math.log1p(-max_error))


def _estimate(above: list[_Above], max_error: float, delta: float) -> int | None:
    """The gold pairs with which a threshold would pass four times of five, were errors as frequent as among its pairs.

    By the normal approximation of the test. Half an error in one more pair is added to what was seen (Jeffreys): no
    error among few pairs promises little.
    """
    level, found = _EARLY * delta, []
    surplus = -NormalDist().inv_cdf(level) * math.sqrt(max_error * (1 - max_error))
    for one in above:
        rate = (one.errors + 0.5) / (one.pairs + 1)
        if rate < max_error:
            spread = surplus + _POWER * math.sqrt(rate * (1 - rate))
            pairs = max(_enough(max_error, level), (spread / (max_error - rate)) ** 2)
            found.append(math.ceil(pairs / one.share))
    return min((pairs for pairs in found if pairs <= _MOST_PAIRS), default=None)
