"""What a type costs in accuracy: a sample of pairs, judged in two types by one model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.judge.encoding import Encoded
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.commands import DoctorOptions
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.report.text import aligned, judge_text
from preftree.labeling.result import Result
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import Pair

_LOGGER = logging.getLogger("preftree")


@dataclass(frozen=True)
class Accuracy:
    """How far labels in one type are from those in another.

    Attributes:
        dtype: the type in question, "auto" resolved.
        against: the type that it is compared with.
        pairs: how many were judged in both, each in both orders.
        flips: pairs whose verdict differs.
        margin_errors: of each prompt, how far the difference of its two labels' log-probabilities is off, in nats.
        mass_errors: of each prompt, how far the probability of any label is off.
        seconds: the time that scoring took in `dtype`.
        against_seconds: the same in `against`.
    """

    dtype: str
    against: str
    pairs: int
    flips: int
    margin_errors: tuple[float, ...]
    mass_errors: tuple[float, ...]
    seconds: float
    against_seconds: float

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        errors = {"margin_error": self.margin_errors, "mass_error": self.mass_errors}
        summed = {f"mean_{name}": fmean(one) for name, one in errors.items()}
        summed |= {f"max_{name}": max(one) for name, one in errors.items()}
        names = ("dtype", "against", "pairs", "flips", "seconds", "against_seconds")
        return {name: getattr(self, name) for name in names} | {"prompts": len(self.margin_errors)} | summed

    def lines(self) -> str:
        """For a terminal."""
        margins, masses = self.margin_errors, self.mass_errors
        return aligned(
            [
                ("compared", f"{self.dtype} with {self.against}, {count(len(margins), 'prompt')}"),
                ("margin error", f"{fmean(margins):.4f} nats on average, {max(margins):.4f} at most"),
                ("verdicts", f"{self.flips:,} of {self.pairs:,} flip ({self.flips / self.pairs:.1%})"),
                ("label mass error", f"{fmean(masses):.5f} on average, {max(masses):.5f} at most"),
                ("seconds", f"{self.seconds:.1f} in {self.dtype}, {self.against_seconds:.1f} in {self.against}"),
            ]
        )


@dataclass(frozen=True)
class _Judged:
    """Of each pair its verdict, of each prompt the margin between the labels and their mass."""

    verdicts: list[str]
    margins: list[float]
    masses: list[float]
    seconds: float


def accuracy_lines(options: DoctorOptions) -> Result:
    """`preftree doctor MODEL --accuracy FILE`. Raises PreftreeError."""
    assert options.model is not None
    assert options.accuracy is not None
    pairs = _read(options.accuracy, options.limit)
    found = compare_types(options.model, pairs, options.dtype, options.against, options.offline)
    return Result([found.lines()], found.record())


def compare_types(
    model: str, pairs: Sequence[Pair], dtype: str = "auto", against: str = "float32", offline: bool = False
) -> Accuracy:
    """Judge pairs in two types, with the default prompt of RLAIF in both orders. Only one model is in memory at a time.

    Args:
        model: as in `preftree.Judge.load`.
        pairs: to judge; those whose prompts are too long for the model are left out.
        dtype: as in `preftree.Engine.load`.
        against: the type to compare with.
        offline: as in `preftree.Judge.load`.

    Raises:
        ModelError: the model cannot be read.
        InputError: a type cannot be used here, both are the same, or no pair can be judged.
    """
    planners = [Judge.load(model, dtype=name, weights=False, offline=offline) for name in (dtype, against)]
    dtype, against = (str(planner.describe()["dtype"]) for planner in planners)
    if dtype == against:
        raise UsageError(f"both types are {dtype}; name another one with --dtype or --against")
    usable, encoded = _encoded(planners[0], pairs)
    one, other = (_judged(model, name, usable, encoded) for name in (dtype, against))
    return Accuracy(
        dtype=dtype,
        against=against,
        pairs=len(usable),
        flips=sum(a != b for a, b in zip(one.verdicts, other.verdicts, strict=True)),
        margin_errors=_distances(one.margins, other.margins),
        mass_errors=_distances(one.masses, other.masses),
        seconds=one.seconds,
        against_seconds=other.seconds,
    )


def _read(path: str, limit: int) -> list[Pair]:
    """The first good pairs of a file."""
    dataset = Dataset.open(path)
    pairs = list(islice((row for row in dataset.read() if isinstance(row, Pair)), limit))
    if not pairs:
        raise InputError(f"{one_line(dataset.name)} has no good pair; rows need prompt, response_a and response_b")
    return pairs


def _encoded(judge: Judge, pairs: Sequence[Pair]) -> tuple[list[Pair], list[Encoded]]:
    """Pairs that can be asked, and their prompts, two each."""
    method, refused = open_method(JudgeOptions(input="")), ""
    usable: list[Pair] = []
    encoded: list[Encoded] = []
    for pair in pairs:
        try:
            encoded += [judge.encode(request) for request in method.requests(pair)]
        except InputError as error:
            refused = str(error)
        else:
            usable.append(pair)
    if not usable:
        raise InputError(f"no pair can be judged; of the last one, {refused}")
    if refused:
        _LOGGER.warning(f"left out: {count(len(pairs) - len(usable), 'pair')}; of the last one, {one_line(refused)}")
    return usable, encoded


def _judged(model: str, dtype: str, pairs: Sequence[Pair], encoded: Sequence[Encoded]) -> _Judged:
    method = open_method(JudgeOptions(input=""))
    with Judge.load(model, dtype=dtype) as judge:
        _LOGGER.info(f"running {judge_text(judge.describe())}")
        scores = judge.score(encoded)
        seconds = judge.usage.seconds
    try:
        both_orders = zip(pairs, scores[::2], scores[1::2], strict=True)
        labels = [method.aggregate(pair, both) for pair, *both in both_orders]
    except InputError as error:
        raise InputError(f"in {dtype}, {error}") from None
    return _Judged(
        verdicts=[label.values()["verdict"] for label in labels],
        margins=[score.answers[0].logprob[0] - score.answers[0].logprob[1] for score in scores],
        masses=[score.label_mass for score in scores],
        seconds=seconds,
    )


def _distances(some: Sequence[float], others: Sequence[float]) -> tuple[float, ...]:
    return tuple(abs(one - other) for one, other in zip(some, others, strict=True))
