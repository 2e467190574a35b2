"""How good the labels of a run are whose principles judged one by one. Constant memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from preftree.labeling.methods.principle_labels import PrincipleScore, SalmonLabel
from preftree.labeling.report.pairs import LOW_MASS, wilson_interval
from preftree.labeling.report.subsets import Agreement
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import Label, Pair, Sample

_PRINCIPLES_SHOWN = 20


class SalmonQuality:
    """Running figures over labelled pairs, of the verdicts and of each principle.

    A judgement is a principle's on a pair, in both orders. It keeps its position when both orders prefer the response
    shown in the same place, and is inconsistent then. Against gold a tie counts as half an agreement, and an
    inconsistent principle ties.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._pairs = self._ties = self._gold_ties = 0
        self._agreement = Agreement()
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
            "agreement": _of(gold.agreements, gold.pairs),
            "agreement_interval": wilson_interval(gold.agreements, gold.pairs) if gold.pairs else None,
            "position_bias": self._share(self._kept().sum() / len(self._names)),
            "prefers_first": _of(self._kept_first.sum(), self._kept().sum()),
            "mean_label_mass": self._share(self._mass.mean()),
            "low_mass": int(self._low_mass.sum()),
            "principles": [self._of_principle(index) for index in range(len(self._names))],
            "correlations": [
                [None if math.isnan(value) else value for value in row] for row in self._scores.correlations().tolist()
            ],
        }

    def lines(self) -> list[tuple[str, str]]:
        if not self._pairs:
            return []
        lines = []
        if self._agreement.pairs:
            half = f"; {count(self._gold_ties, 'tie')} counted half" if self._gold_ties else ""
            lines.append(("agreement with gold", self._agreement.text() + half))
        judgements, kept = self._pairs * len(self._names), int(self._kept().sum())
        text = f"{kept / judgements:.1%}: {count(kept, 'judgement')} of {judgements:,} prefer the same position"
        first, second = int(self._kept_first.sum()), int(self._kept_second.sum())
        lines.append(("position bias", text + f" in both orders ({first:,} the first, {second:,} the second)"))
        text = f"mean {self._mass.mean() / self._pairs:.3f}"
        if low := int(self._low_mass.sum()):
            text += f"; {count(low, 'judgement')} under {LOW_MASS} in an order"
        lines.append(("label mass", text))
        lines += [("principles", line) for line in self._table()]
        lines += self._correlation_lines()
        if self._ties:
            lines.append(("ties", count(self._ties, "pair")))
        return lines

    def _table(self) -> list[str]:
        shown = self._names[:_PRINCIPLES_SHOWN]
        width = max(len(one_line(name)) for name in shown)
        gold, decided = self._agreement.pairs > 0, bool(self._decided.any())
        head = f"{'':<{width}}  consistent  {'with gold  ' * gold}mean score{'  decided' * decided}"
        rows = []
        for index, name in enumerate(shown):
            figures = self._of_principle(index)
            agreed = f"{figures['agreement']:>9.1%}  " if gold else ""
            cells = f"{figures['consistent']:>10.1%}  {agreed}{figures['mean_score']:>+10.3f}"
            rows.append(f"{one_line(name):<{width}}  {cells}" + (f"  {figures['decided']:>7,}" if decided else ""))
        if hidden := len(self._names) - len(shown):
            rows.append(f"and {hidden:,} more in run.json")
        return [head, *rows]

    def _correlation_lines(self) -> list[tuple[str, str]]:
        correlations = self._scores.correlations()
        correlations[np.tril_indices(len(self._names))] = np.nan
        if np.isnan(correlations).all():
            return []
        one, other = np.unravel_index(np.nanargmax(correlations), correlations.shape)
        highest = f"{correlations[one, other]:+.2f} of {self._names[one]} and {self._names[other]}"
        return [("correlation", f"between principles' scores: mean {np.nanmean(correlations):+.2f}, highest {highest}")]

    def _of_principle(self, index: int) -> dict[str, Any]:
        agreement = self._agreements[index]
        return {
            "name": self._names[index],
            "agreement": _of(agreement.agreements, agreement.pairs),
            "consistent": self._share(self._consistent[index]),
            "position_bias": self._share(self._kept()[index]),
            "prefers_first": _of(self._kept_first[index], self._kept()[index]),
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
        return _of(total, self._pairs)


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


def _of(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None
