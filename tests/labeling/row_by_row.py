"""Figures of labels row by row, in plain Python: what `preftree.labeling.report` must say of the same rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preftree.labeling.methods.principle_labels import PrincipleScore, SalmonLabel
from preftree.labeling.methods.ranking_labels import RankingLabel
from preftree.labeling.methods.score_labels import DirectLabel, Score
from preftree.labeling.methods.set_labels import SetsLabel
from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.types import Label, Pair, PairLabel, ResponseSet, Sample, Verdict
from tests.labeling.win_rate_by_row import WinRateByRow

LOW_MASS = 0.5
BINS = 10


@dataclass
class Calibration:
    """Confidence and whether it was right, of every pair whose gold is a or b."""

    forecasts: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, p_a: float, gold_is_a: bool) -> None:
        right = 0.5 if p_a == 0.5 else float((p_a > 0.5) == gold_is_a)
        self.forecasts.append((max(p_a, 1 - p_a), right, (p_a - gold_is_a) ** 2))

    def figures(self) -> dict[str, Any] | None:
        total, error, bins = len(self.forecasts), 0.0, []
        if not total:
            return None
        for k in range(BINS, 2 * BINS):
            last = k == 2 * BINS - 1
            mine = [one for one in self.forecasts if k / 20 <= one[0] and (last or one[0] < (k + 1) / 20)]
            if mine:
                confidence, right = (math.fsum(one[place] for one in mine) for place in (0, 1))
                error += abs(confidence - right) / total
                found = {"mean_confidence": confidence / len(mine), "correct": right / len(mine)}
                bins.append({"from": k / 20, "to": (k + 1) / 20, "pairs": len(mine), **found})
        brier = math.fsum(one[2] for one in self.forecasts) / total
        return {"pairs": total, "brier": brier, "expected_calibration_error": error, "bins": bins}


@dataclass
class LengthBias:
    """Running figures over labelled pairs; none of them depends on which response is called A.

    verdicts: pairs with a verdict other than a tie. decided: those of them whose responses differ in length; longer:
    those whose verdict is the longer one. gold_decided, gold_longer: the same of gold, to compare with.
    """

    verdicts: int = 0
    decided: int = 0
    longer: int = 0
    gold_decided: int = 0
    gold_longer: int = 0
    _chosen_minus_other: int = 0
    _lengths_squared: int = 0
    _leanings_squared: float = 0.0
    _products: float = 0.0

    def add(self, pair: Pair, p_a: float, verdict: Verdict) -> None:
        difference, leaning = len(pair.response_a) - len(pair.response_b), p_a - 0.5
        self._lengths_squared += difference * difference
        self._leanings_squared += leaning * leaning
        self._products += difference * leaning
        longer = "a" if difference > 0 else "b"
        if verdict != "tie":
            self.verdicts += 1
            self._chosen_minus_other += difference if verdict == "a" else -difference
            self.decided += difference != 0
            self.longer += difference != 0 and verdict == longer
        if pair.gold in ("a", "b") and difference:
            self.gold_decided += 1
            self.gold_longer += pair.gold == longer

    @property
    def share(self) -> float | None:
        """Of the verdicts between responses of different length: those that choose the longer."""
        return self.longer / self.decided if self.decided else None

    @property
    def gold_share(self) -> float | None:
        return self.gold_longer / self.gold_decided if self.gold_decided else None

    @property
    def mean_difference(self) -> float | None:
        """Characters that the chosen response has more than the other, over all verdicts."""
        return self._chosen_minus_other / self.verdicts if self.verdicts else None

    @property
    def correlation(self) -> float | None:
        """Pearson's, between p_a - 0.5 and the length of A minus that of B.

        Every pair counts both ways round, so that both means are 0: sum(xy) / sqrt(sum(x^2) sum(y^2)).
        """
        scale = math.sqrt(self._lengths_squared) * math.sqrt(self._leanings_squared)
        return self._products / scale if scale else None

    def figures(self) -> dict[str, Any] | None:
        """For run.json; None where no verdict had lengths to choose between."""
        if not self.decided:
            return None
        return {
            "verdicts": self.decided,
            "chose_longer": self.share,
            "chose_longer_interval": wilson_interval(self.longer, self.decided),
            "gold_chose_longer": self.gold_share,
            "mean_chosen_minus_other": self.mean_difference,
            "correlation": self.correlation,
        }


@dataclass
class PairByRow:
    """Running figures over labelled pairs.

    A pair keeps its position when both orders prefer the response shown in the same place (Lee et al. 2023,
    section 4.3). A label that ties against a gold that does not counts as half an agreement.
    """

    pairs: int = 0
    ties: int = 0
    gold_pairs: int = 0
    gold_ties: int = 0
    agreements: float = 0.0
    kept_first: int = 0
    kept_second: int = 0
    low_mass: int = 0
    calibration: Calibration = field(default_factory=Calibration)
    lengths: LengthBias = field(default_factory=LengthBias)
    wins: WinRateByRow = field(default_factory=WinRateByRow)
    _gap: float = 0.0
    _absolute_gap: float = 0.0
    _mass: float = 0.0

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(sample, Pair)
        assert isinstance(label, PairLabel)
        gold, verdict, gap = sample.gold, label.verdict, label.position_gap
        self.pairs += 1
        tie = verdict == "tie"
        self.ties += tie
        if gold in ("a", "b"):
            self.gold_pairs += 1
            self.gold_ties += tie
            self.agreements += 0.5 if tie else float(verdict == gold)
            self.calibration.add(label.p_a, gold == "a")
        self.lengths.add(sample, label.p_a, verdict)
        self.wins.add(sample, verdict, label.p_a)
        self.kept_first += label.p_a_first > 0.5 > label.p_a_second
        self.kept_second += label.p_a_first < 0.5 < label.p_a_second
        self._gap += gap
        self._absolute_gap += abs(gap)
        self._mass += (label.label_mass_first + label.label_mass_second) / 2
        self.low_mass += min(label.label_mass_first, label.label_mass_second) < LOW_MASS

    @property
    def agreement(self) -> float | None:
        return self.agreements / self.gold_pairs if self.gold_pairs else None

    @property
    def agreement_interval(self) -> tuple[float, float] | None:
        return wilson_interval(self.agreements, self.gold_pairs) if self.gold_pairs else None

    @property
    def kept(self) -> int:
        return self.kept_first + self.kept_second

    @property
    def position_bias(self) -> float | None:
        return self.kept / self.pairs if self.pairs else None

    @property
    def prefers_first(self) -> float | None:
        """Of the pairs that keep their position: the share that prefers the first."""
        return self.kept_first / self.kept if self.kept else None

    @property
    def mean_gap(self) -> float | None:
        return self._gap / self.pairs if self.pairs else None

    @property
    def mean_absolute_gap(self) -> float | None:
        return self._absolute_gap / self.pairs if self.pairs else None

    @property
    def mean_label_mass(self) -> float | None:
        return self._mass / self.pairs if self.pairs else None

    def figures(self) -> dict[str, object]:
        """For run.json. None where there was nothing to count."""
        counts = ("pairs", "ties", "gold_pairs", "gold_ties", "agreements", "low_mass")
        shares = ("agreement", "agreement_interval", "position_bias", "prefers_first")
        means = ("mean_gap", "mean_absolute_gap", "mean_label_mass")
        figures = {name: getattr(self, name) for name in (*counts, *shares, *means)}
        return figures | {
            "calibration": self.calibration.figures(),
            "length_bias": self.lengths.figures(),
            "win_rate": self.wins.figures(),
        }


@dataclass
class Agreement:
    """Pairs with a gold of a or b, and how many verdicts agree; a verdict that ties counts half."""

    pairs: int = 0
    agreements: float = 0.0

    def add(self, verdict: str, gold: str) -> None:
        self.pairs += 1
        self.agreements += 0.5 if verdict == "tie" else float(verdict == gold)

    def figures(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "agreement": self.agreements / self.pairs,
            "agreement_interval": wilson_interval(self.agreements, self.pairs),
        }


_MAX_CHARS = 60
MAX_VALUES = 50


class BySubset:
    """The figures of `whole`, and the agreement for each value of `column`, in the order in which values appear.

    The first 50 values are kept apart, the others together. Values are told by the first 60 characters of their text,
    which is JSON for all but strings; a row without the column has the value null.
    """

    def __init__(self, whole: Any, column: str) -> None:
        self._whole = whole
        self._column = column
        self._values: dict[str, Agreement] = {}
        self._others = Agreement()

    def add(self, sample: Sample, label: Label) -> None:
        self._whole.add(sample, label)
        gold = getattr(sample, "gold", None)
        if gold not in ("a", "b"):
            return
        value = sample.extra.get(self._column)
        text = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:_MAX_CHARS]
        if text not in self._values and len(self._values) < MAX_VALUES:
            self._values[text] = Agreement()
        self._values.get(text, self._others).add(label.values()["verdict"], gold)

    def figures(self) -> dict[str, Any]:
        values = [{"value": text, **agreement.figures()} for text, agreement in self._values.items()]
        others = self._others.figures() if self._others.pairs else None
        return {**self._whole.figures(), "subsets": {"column": self._column, "values": values, "others": others}}


@dataclass
class ScoreByRow:
    """Running figures over scored responses; a pair has two. num_values: how many numbers the scale has.

    The standard deviation is that of the responses at hand (divided by their number). Scores that tie against a gold
    that does not count as half an agreement.
    """

    num_values: int
    responses: int = 0
    low_mass: int = 0
    pairs: int = 0
    ties: int = 0
    gold_ties: int = 0
    gold: Agreement = field(default_factory=Agreement)
    wins: WinRateByRow = field(default_factory=WinRateByRow)
    rewards: dict[str, list[float]] = field(default_factory=lambda: {"": [], "_a": [], "_b": []})
    _mean: float = 0.0
    _squares: float = 0.0
    _entropy: float = 0.0
    _mass: float = 0.0

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(label, DirectLabel)
        for end, score in zip(("_a", "_b") if len(label.scores) == 2 else ("",), label.scores, strict=True):
            self._add_score(score)
            self.rewards[end].append(score.reward)
        verdict = label.verdict
        if not isinstance(sample, Pair) or verdict is None:
            return
        self.pairs += 1
        self.ties += verdict == "tie"
        self.wins.add(sample, verdict, None)
        if sample.gold in ("a", "b"):
            self.gold_ties += verdict == "tie"
            self.gold.add(verdict, sample.gold)

    def _add_score(self, score: Score) -> None:
        """Welford's update, which takes no difference of large sums."""
        self.responses += 1
        gap = score.score - self._mean
        self._mean += gap / self.responses
        self._squares += gap * (score.score - self._mean)
        self._entropy += score.entropy
        self._mass += score.label_mass
        self.low_mass += score.label_mass < LOW_MASS

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        counts = ("responses", "low_mass", "pairs", "ties", "gold_ties")
        gold = self.gold.figures() if self.gold.pairs else {}
        shares = {name: gold.get(name) for name in ("agreement", "agreement_interval")}
        agreed = {"gold_pairs": self.gold.pairs, "agreements": self.gold.agreements}
        rewards = {f"reward_above_0{end}": _above_0(values) for end, values in self.rewards.items()}
        own = {name: getattr(self, name) for name in counts} | {"win_rate": self.wins.figures()}
        return own | self._means() | agreed | shares | rewards

    def _means(self) -> dict[str, float | None]:
        if not self.responses:
            return dict.fromkeys(("mean_score", "std_score", "mean_entropy", "mean_label_mass"))
        return {
            "mean_score": self._mean,
            "std_score": math.sqrt(self._squares / self.responses),
            "mean_entropy": self._entropy / self.responses,
            "mean_label_mass": self._mass / self.responses,
        }


def _above_0(rewards: Sequence[float]) -> dict[str, Any] | None:
    above = sum(reward > 0 for reward in rewards)
    if not rewards:
        return None
    interval = wilson_interval(above, len(rewards))
    return {"responses": len(rewards), "share": above / len(rewards), "interval": interval}


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
        self._lengths, self._wins = LengthBias(), WinRateByRow()
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
            "agreement": _of(gold.agreements, gold.pairs),
            "agreement_interval": wilson_interval(gold.agreements, gold.pairs) if gold.pairs else None,
            "position_bias": self._share(self._kept().sum() / len(self._names)),
            "prefers_first": _of(self._kept_first.sum(), self._kept().sum()),
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


_OF_PAIRS = (
    "pairs",
    "ties",
    "low_mass",
    "position_bias",
    "prefers_first",
    "mean_gap",
    "mean_absolute_gap",
    "mean_label_mass",
    "length_bias",
)


def triads(label: RankingLabel) -> tuple[int, int]:
    """(all, circular): triples with a winner in each of their comparisons; those in which each has won one."""
    size = len(label.strengths)
    beats, beaten_by = [0] * size, [0] * size  # sets of responses, as bits
    for i, j, compared in label.comparisons:
        if compared.verdict != "tie":
            winner, loser = (i, j) if compared.verdict == "a" else (j, i)
            beats[winner] |= 1 << loser
            beaten_by[loser] |= 1 << winner
    decided = [wins | losses for wins, losses in zip(beats, beaten_by, strict=True)]
    met = [(i, j) for i in range(size) for j in range(size) if beats[i] >> j & 1]
    together = sum((decided[i] & decided[j]).bit_count() for i, j in met)
    circular = sum((beats[j] & beaten_by[i]).bit_count() for i, j in met)
    return together // 3, circular // 3


@dataclass
class RankingByRow:
    """Running figures over ranked rows: those of their comparisons, and circular triads.

    A triad is circular when i beats j, j beats k and k beats i (Kendall and Babington Smith 1940): no ranking agrees
    with it. A judge that tosses coins makes a quarter of all triads circular.
    """

    rows: int = 0
    triads: int = 0
    circular: int = 0
    pairs: PairByRow = field(default_factory=PairByRow)

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(sample, ResponseSet)
        assert isinstance(label, RankingLabel)
        self.rows += 1
        for i, j, comparison in label.comparisons:
            self.pairs.add(Pair(sample.id, sample.prompt, sample.responses[i], sample.responses[j]), comparison)
        found, circular = triads(label)
        self.triads += found
        self.circular += circular

    @property
    def circular_share(self) -> float | None:
        return self.circular / self.triads if self.triads else None

    def figures(self) -> dict[str, Any]:
        """For run.json; pairs are comparisons in both orders."""
        of_pairs = self.pairs.figures()
        own = {"rows": self.rows, "triads": self.triads, "circular_triads": self.circular}
        return {**own, "circular_share": self.circular_share, **{name: of_pairs[name] for name in _OF_PAIRS}}


class PrincipledByRow:
    """Running figures under each set: those of pairs, and those of single responses."""

    def __init__(self, names: Sequence[str], num_values: int) -> None:
        """num_values: see `ScoreByRow`."""
        self._sets = [(name, PairByRow(), ScoreByRow(num_values)) for name in names]

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(label, SetsLabel)
        for (_, pairs, singles), of_set in zip(self._sets, label.labels, strict=True):
            (pairs if isinstance(of_set, PairLabel) else singles).add(sample, of_set)

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        return {
            "sets": [
                {
                    "name": name,
                    "pairs": pairs.figures() if pairs.pairs else None,
                    "responses": singles.figures() if singles.responses else None,
                }
                for name, pairs, singles in self._sets
            ]
        }
