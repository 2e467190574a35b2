"""Several responses ranked from pairwise soft labels: each comparison is one of RLAIF, in both orders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.methods.bradley_terry import RIDGE, strengths
from preftree.labeling.methods.ranking_labels import RankingLabel
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.options.methods import RankingOptions
from preftree.labeling.prompts.catalogue import chosen_template
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Pair, RequestScores, ResponseSet, Sample, ScoreRequest

MAX_RESPONSES = 100  # 9,900 prompts in a row


@dataclass(frozen=True)
class Ranking:
    """The judge compares responses two by two, always in both orders; strengths and ranking are Bradley and Terry's.

    rlaif: how two are compared. comparisons: an even number of prompts for a row, None for all ordered pairs. Which
    pairs are asked about then follows from the row's id and its responses, not from their order in the row.
    """

    rlaif: Rlaif
    comparisons: int | None = None

    name: ClassVar[str] = "ranking"
    takes: ClassVar[tuple[type[Sample], ...]] = (ResponseSet,)
    columns: ClassVar[Mapping[str, ArrowType]] = RankingLabel.COLUMNS

    def requests(self, sample: Sample) -> list[ScoreRequest]:
        """By the response shown first, then by the one shown second: neighbours share all up to the second."""
        assert isinstance(sample, ResponseSet)
        asked = {}
        for i, j, pair in self._pairs(sample):
            asked[i, j], asked[j, i] = self.rlaif.requests(pair)
        return [replace(asked[order], title="response {} before {}".format(*order)) for order in sorted(asked)]

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> RankingLabel:
        """Raises InputError when a score is not finite."""
        assert isinstance(sample, ResponseSet)
        pairs = list(self._pairs(sample))
        orders = sorted([(i, j) for i, j, _ in pairs] + [(j, i) for i, j, _ in pairs])
        answers = dict(zip(orders, scores, strict=True))
        comparisons = [(i, j, self.rlaif.aggregate(pair, (answers[i, j], answers[j, i]))) for i, j, pair in pairs]
        wins = np.full((len(sample.responses),) * 2, np.nan)
        for i, j, label in comparisons:
            wins[i, j], wins[j, i] = label.p_a, 1.0 - label.p_a
        # Fitted in an order that the row's does not change, so that permuted responses get the same bits.
        order = _own_order(sample)
        fitted = np.empty(len(order))
        fitted[order] = strengths(wins[np.ix_(order, order)])
        tokens = sum(answer.prompt_tokens for answer in scores)
        return RankingLabel(tuple(comparisons), tuple(fitted.tolist()), tokens)

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        return [
            f"response {i} is better than {j} with p {p:.6f}"
            for i, row in enumerate(values["win_matrix_first"])
            for j, p in enumerate(row)
            if p is not None
        ]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """The judge is not to explain."""
        return []

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {**self.rlaif.record(), "comparisons": self.comparisons, "bradley_terry_ridge": RIDGE}

    def _pairs(self, sample: ResponseSet) -> Iterator[tuple[int, int, Pair]]:
        return compared_pairs(sample, self.comparisons)


def compared_pairs(sample: ResponseSet, comparisons: int | None) -> Iterator[tuple[int, int, Pair]]:
    """Indices i < j and the pair that they make, for all that are to be compared, in order.

    comparisons: prompts, two for each pair; None for all pairs. Raises InputError where there are too many responses,
    or too few comparisons to connect them.
    """
    size = len(sample.responses)
    if size > MAX_RESPONSES:
        raise InputError(f"too many responses: {size:,}, at most {MAX_RESPONSES} can be ranked")
    number = size * (size - 1) // 2
    if comparisons is not None and comparisons // 2 < number:
        number = comparisons // 2
        if number < size - 1:
            need = f"{size} responses need {2 * (size - 1)} to be connected"
            raise InputError(f"too few comparisons: {need}, --comparisons is {comparisons}")
    order = _own_order(sample)
    for i, j in sorted(sorted((order[one], order[other])) for one, other in balanced_pairs(size, number)):
        yield i, j, Pair(sample.id, sample.prompt, sample.responses[i], sample.responses[j], extra=sample.extra)


def _own_order(sample: ResponseSet) -> list[int]:
    """The responses as if shuffled by the row's id, whatever their order in the row; equal ones stay in theirs."""
    keys = [hashlib.blake2b(f"{sample.id}\0{text}".encode(), digest_size=16).digest() for text in sample.responses]
    return sorted(range(len(keys)), key=keys.__getitem__)


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


def opened(options: RankingOptions, recorded: Mapping[str, Any] | None) -> Ranking:
    """See `preftree.labeling.methods.registry.open_method`."""
    template = chosen_template(options, recorded, "general")
    if template.num_responses != 2:
        raise UsageError(f"template {template.name} shows one response; method ranking compares two")
    asked = options.comparisons
    if asked is not None and (asked < 4 or asked % 2):
        raise UsageError(f"--comparisons must be an even number from 4, for two are asked in both orders; not {asked}")
    return Ranking(Rlaif(template, options.preamble, options.exemplars), asked)
