"""What benchmarks share: means by the values of a column, and how a score is shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from preftree.labeling.report.agreement import decided
from preftree.labeling.report.arrays import NONE, Choices, Floats, Mask, choices, column, known, numbers
from preftree.labeling.report.pairs import gold_of
from preftree.labeling.terminal import count, one_line

_ORDERS = ("p_a_first", "p_a_second")
PAIR_COLUMNS = ("verdict", "gold", *_ORDERS)


class Benchmark(Protocol):
    """Running figures over the labels of a benchmark's rows.

    Attributes:
        READS: the columns of labels.parquet that it is made of.
    """

    READS: ClassVar[tuple[str, ...]]

    @classmethod
    def fits(cls, kinds: Mapping[str, Any]) -> bool:
        """Whether columns of these types may be labels of this benchmark."""

    def add(self, batch: Any) -> None:
        """The labelled rows of a record batch."""

    def figures(self) -> dict[str, Any] | None:
        """See `scored`; None where no row is of this benchmark."""


class Means:
    """Running means of some measures by the values of a column.

    Attributes:
        names: the values so far.
    """

    def __init__(self, *measures: str, only: Collection[str] | None = None) -> None:
        """only: values that count; None for all."""
        self.measures = measures
        self._only = only
        self._sums: dict[str, tuple[int, Floats]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._sums)

    def add(self, values: Any, measured: Floats) -> None:
        """values: an Arrow array of strings. measured: [rows, measures], NaN in rows that do not count."""
        encoded = values.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            some = measured[(codes == code) & known(*measured.T)]
            if len(some) and (self._only is None or name in self._only):
                rows, sums = self._sums.get(name, (0, np.zeros(len(self.measures))))
                self._sums[name] = rows + len(some), sums + some.sum(axis=0)

    def part(self, name: str, values: Collection[str] | None = None) -> dict[str, Any]:
        """An entry for `scored`. values: those to put together; None for the one called `name`."""
        found = [self._sums[value] for value in self._sums if value in ((name,) if values is None else values)]
        rows = sum(number for number, _ in found)
        sums = sum((one for _, one in found), np.zeros(len(self.measures)))
        return {"name": name, "rows": rows} | {
            measure: float(total) / rows if rows else None for measure, total in zip(self.measures, sums, strict=True)
        }


def scored(
    name: str,
    scores: Mapping[str, float | None],
    parts: Sequence[Mapping[str, Any]],
    expected: Collection[str],
    **more: Any,
) -> dict[str, Any]:
    """For run.json.

    Args:
        name: of the benchmark.
        scores: its headline figures.
        parts: name, labelled rows and measures of each of its parts.
        expected: names of all the parts that it has.
        more: what else there is to say.
    """
    there = {part["name"] for part in parts}
    absent = [part for part in expected if part not in there]
    return {"name": name, "scores": dict(scores), "parts": [dict(part) for part in parts], "missing": absent, **more}


def measures_of(part: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Those of an entry of "parts" in `scored`."""
    return ((name, value) for name, value in part.items() if name not in ("name", "rows"))


def share_text(value: float | None) -> str:
    """ "12.3%", a dash for what there is none of."""
    return "–" if value is None else f"{value:.1%}"


def lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """For a terminal. found: what `scored` returned."""
    scores = ", ".join(f"{name} {share_text(value)}" for name, value in found["scores"].items())
    texts = [f"{scores}; missing: {', '.join(found['missing'])}" if found["missing"] else scores]
    width = max(len(part["name"]) for part in found["parts"])
    for part in found["parts"]:
        measured = ", ".join(f"{name} {share_text(value)}" for name, value in measures_of(part))
        texts.append(f"{one_line(part['name']):<{width}}  {count(part['rows'], 'row')}: {measured}")
    return [(found["name"], text) for text in texts]


def mean(values: Collection[float | None]) -> float | None:
    """Of those that there are; None of nothing."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def games(batch: Any) -> tuple[Choices, Choices]:
    """Who is better, with A shown first and with A shown second; the verdict twice where there are no such columns."""
    both = [column(batch, name) for name in _ORDERS]
    if any(one is None for one in both):
        verdict = choices(column(batch, "verdict"))
        return verdict, verdict
    first, second = (numbers(one, name) - 0.5 for one, name in zip(both, _ORDERS, strict=True))
    return _sides(first), _sides(second)


def gold_and(batch: Any, *others: Choices) -> tuple[Choices, Mask]:
    """Gold, and where it is A or B and all of the others are known."""
    gold = gold_of(batch)
    assert gold is not None
    there = decided(gold)
    for other in others:
        there &= other != NONE
    return gold, there


def _sides(lead: Floats) -> Choices:
    """A above 0, B below, a tie at 0."""
    return np.where(np.isnan(lead), NONE, np.sign(np.nan_to_num(lead))).astype(np.int8)


def are_texts(kinds: Mapping[str, Any], *names: str) -> bool:
    """Whether there are such columns of strings."""
    from pyarrow import types

    return all(name in kinds and types.is_string(kinds[name]) for name in names)
