"""Figures of pairs under several principles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from preftree.labeling.methods.principle_labels import PrincipleScore, SalmonLabel
from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.types import Label, Pair, Sample
from tests.labeling.by_row.agreement import Agreement, share
from tests.labeling.by_row.lengths import LengthBiasByRow
from tests.labeling.by_row.pairs import LOW_MASS
from tests.labeling.by_row.win_rate import WinRateByRow


class SalmonByRow:
    """Running figures over labelled pairs, of the verdicts and of each principle.

    A judgement is a principle's on a pair, in both orders. It keeps its position when both orders prefer the response
    shown in the same place, and is inconsistent then. Against gold a tie counts as half an agreement, and an
    inconsistent principle ties.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._pairs = self._ties = self._gold_ties = 0
        self._agreement = Agreement()
        self._lengths, self._wins = LengthBiasByRow(), WinRateByRow()
        self._agreements = [Agreement() for _ in names]
        self._decided = np.zeros(len(names), dtype=np.int64)
        self._consistent = np.zeros(len(names), dtype=np.int64)
        self._kept_first = np.zeros(len(names), dtype=np.int64)
        self._kept_second = np.zeros(len(names), dtype=np.int64)
        self._low_mass = np.zeros(len(names), dtype=np.int64)
        self._mass = np.zeros(len(names))
        self._gap = np.zeros(len(names))
        self._scores = _Covariance(len(names))

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(sample, Pair)
        assert isinstance(label, SalmonLabel)
        scores = label.principles
        self._pairs += 1
        self._ties += label.verdict == "tie"
        self._lengths.add(sample, label.aggregate.p_a, label.verdict)
        self._wins.add(sample, label.verdict, label.aggregate.p_a)
        if sample.gold in ("a", "b"):
            self._gold_ties += label.verdict == "tie"
            self._agreement.add(label.verdict, sample.gold)
            for agreement, score in zip(self._agreements, scores, strict=True):
                agreement.add(_verdict(score), sample.gold)
        if label.aggregate.decided_by is not None:
            self._decided[self._names.index(label.aggregate.decided_by)] += 1
        self._consistent += [score.consistent for score in scores]
        self._kept_first += [score.s12 > 0 > score.s21 for score in scores]
        self._kept_second += [score.s12 < 0 < score.s21 for score in scores]
        masses = np.array([(score.label_mass_first, score.label_mass_second) for score in scores])
        self._low_mass += masses.min(axis=1) < LOW_MASS
        self._mass += masses.mean(axis=1)
        self._gap += [score.s12 - score.s21 for score in scores]
        self._scores.add([score.score for score in scores])

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count.

        Scores, their variance and mean_gap (s12 - s21, above 0 for a lean to the response shown first) are in nats.
        correlations: of the scores of each two principles.
        """
        gold = self._agreement
        return {
            "pairs": self._pairs,
            "ties": self._ties,
            "gold_pairs": gold.pairs,
            "gold_ties": self._gold_ties,
            "agreements": gold.agreements,
            "agreement": share(gold.agreements, gold.pairs),
            "agreement_interval": wilson_interval(gold.agreements, gold.pairs) if gold.pairs else None,
            "position_bias": self._share(self._kept().sum() / len(self._names)),
            "prefers_first": share(self._kept_first.sum(), self._kept().sum()),
            "mean_label_mass": self._share(self._mass.mean()),
            "low_mass": int(self._low_mass.sum()),
            "length_bias": self._lengths.figures(),
            "win_rate": self._wins.figures(),
            "principles": [self._of_principle(index) for index in range(len(self._names))],
            "correlations": [
                [None if math.isnan(value) else value for value in row] for row in self._scores.correlations().tolist()
            ],
        }

    def _of_principle(self, index: int) -> dict[str, Any]:
        agreement = self._agreements[index]
        return {
            "name": self._names[index],
            "agreement": share(agreement.agreements, agreement.pairs),
            "consistent": self._share(self._consistent[index]),
            "position_bias": self._share(self._kept()[index]),
            "prefers_first": share(self._kept_first[index], self._kept()[index]),
            "mean_score": self._share(self._pairs * self._scores.mean[index]),
            "mean_gap": self._share(self._gap[index]),
            "score_variance": self._share(self._scores.products[index, index]),
            "decided": int(self._decided[index]),
            "mean_label_mass": self._share(self._mass[index]),
            "low_mass": int(self._low_mass[index]),
        }

    def _kept(self) -> Any:
        return self._kept_first + self._kept_second

    def _share(self, total: float) -> float | None:
        return share(total, self._pairs)


class _Covariance:
    """Means, and sums of products of what differs from them (Welford), of vectors of one length."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = np.zeros(size)
        self.products = np.zeros((size, size))

    def add(self, values: Sequence[float]) -> None:
        self.count += 1
        before = np.asarray(values) - self.mean
        self.mean += before / self.count
        self.products += np.outer(before, np.asarray(values) - self.mean)

    def correlations(self) -> Any:
        """nan for what does not vary."""
        spread = np.sqrt(self.products.diagonal())
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.products / np.outer(spread, spread)).clip(-1.0, 1.0)


def _verdict(score: PrincipleScore) -> str:
    return "tie" if not score.consistent else "a" if score.score > 0 else "b"
