"""A row as it is shown for reading: texts, both orders' probabilities and rationales. Texts are plain."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from preftree.labeling.rationales import recorded_rationales
from preftree.labeling.report.batch import compared
from preftree.labeling.report.notable import NotableRow
from preftree.labeling.report.table import Table, decimal
from preftree.labeling.terminal import count, one_line, visible
from preftree.labeling.types import Pair, Response, ResponseSet, Sample

_MAX_CHARS = 20_000
_MAX_NAME = 200
_MAX_RATIONALES = 4
_ORDERS = ("", "p, A first", "p, B first", "mass, A first", "mass, B first")
_SCORES = ("", "score", "reward", "mode", "entropy", "mass")
_RESPONSES = {"": "response", "_a": "A", "_b": "B"}
_ENDS = {"": "", "_first": ", A first", "_second": ", B first", "_a": ", A", "_b": ", B"}


@dataclass(frozen=True)
class Reading:
    """Attributes:
    title: the row's id.
    reasons: why it is shown.
    verdict: what the label says, and gold where it is known.
    tables: what the judge answered.
    texts: heading and text of prompt, responses and rationales.
    """

    title: str
    reasons: tuple[str, ...]
    verdict: str
    tables: tuple[Table, ...]
    texts: tuple[tuple[str, str], ...]


def reading(found: NotableRow, sample: Sample | None) -> Reading:
    """sample: what was labelled; None where it cannot be read any more."""
    row = found.row
    tables = tuple(table for table in (_orders(row), _scores(row), _criteria(row)) if table.rows)
    texts = (*(_texts(sample) if sample is not None else ()), *_rationales(row))
    return Reading(
        _cut(one_line(str(row["id"])), _MAX_NAME),
        found.reasons,
        _verdict(row),
        tables,
        tuple((heading, _cut(visible(text), _MAX_CHARS)) for heading, text in texts),
    )


def _verdict(row: Mapping[str, Any]) -> str:
    names = ("verdict", "gold", "best", "worst", "decided_by")
    said = [f"{name.replace('_', ' ')} {row[name]}" for name in names if row.get(name) is not None]
    if isinstance(p_a := row.get("p_a"), float):
        said.insert(1, f"p {decimal(p_a)}")
    if row.get("consistent") is False:
        said.append("not consistent")
    return _cut(one_line(", ".join(said)), _MAX_NAME)


def _orders(row: Mapping[str, Any]) -> Table:
    return Table(tuple((name, *map(_number, values)) for name, *values in _of_orders(row)), _ORDERS)


def _of_orders(row: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Name; probability of A, shown first and second; label mass in the same orders."""
    masses = ("label_mass_first", "label_mass_second")
    if isinstance(principles := row.get("principles"), list):
        for one in principles:
            odds = (_logistic(one["s12"]), _logistic(one["s21"]))
            yield (_name(one["name"]), *odds, *(one.get(mass) for mass in masses))
    elif isinstance(sets := row.get("sets"), list):
        for one in sets:
            if one.get("p_a_first") is not None:
                yield (_name(one["set"]), *(one.get(name) for name in ("p_a_first", "p_a_second", *masses)))
    elif isinstance(wins := row.get("win_matrix"), list):
        first, mass = row["win_matrix_first"], row.get("mass_matrix_first")
        for i, j in compared(wins):
            known = (mass[i][j], mass[j][i]) if mass else (None, None)
            yield (f"A = {i}, B = {j}", first[i][j], 1.0 - first[j][i], *known)
    elif row.get("p_a_first") is not None:
        yield ("", *(row.get(name) for name in ("p_a_first", "p_a_second", *masses)))


def _scores(row: Mapping[str, Any]) -> Table:
    """Of single responses, or of both of a pair."""
    fields = ("score", "reward", "mode", "entropy", "label_mass")
    found = [(name, [row.get(f"{field}{end}") for field in fields]) for end, name in _RESPONSES.items()]
    if isinstance(sets := row.get("sets"), list):
        found += [(_name(one["set"]), [one.get(field) for field in fields]) for one in sets]
    rows = tuple((name, *map(_number, values)) for name, values in found if isinstance(values[0], float))
    return Table(rows, _SCORES)


def _criteria(row: Mapping[str, Any]) -> Table:
    """Of a rubric: P(yes) for the response, or for both of a pair."""
    found = [(name, row.get(f"criteria{end}")) for end, name in _RESPONSES.items()]
    judged = [(name, entries) for name, entries in found if isinstance(entries, list)]
    rows = tuple(
        (_name(same[0]["name"]), f"{same[0]['weight']:g}", *(_number(one["p_yes"]) for one in same))
        for same in zip(*(entries for _, entries in judged), strict=True)
    )
    return Table(rows, ("criterion", "weight", *(f"P(yes), {name}" for name, _ in judged)))


def _texts(sample: Sample) -> Iterator[tuple[str, str]]:
    if len(sample.prompt) == 1 and sample.prompt[0].role == "user":
        yield "Prompt", sample.prompt[0].content
    else:
        yield from ((f"Prompt, {message.role}", message.content) for message in sample.prompt)
    if isinstance(sample, Pair):
        yield "Response A", sample.response_a
        yield "Response B", sample.response_b
    elif isinstance(sample, Response):
        yield "Response", sample.response
    elif isinstance(sample, ResponseSet):
        yield from ((f"Response {index}", text) for index, text in enumerate(sample.responses))


def _rationales(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    owners: list[tuple[str, Mapping[str, Any]]] = [("", row)]
    if isinstance(principles := row.get("principles"), list):
        owners += [(f", {_name(one['name'])}", one) for one in principles]
    for end, response in _RESPONSES.items():
        if isinstance(criteria := row.get(f"criteria{end}"), list):
            owners += [(f", {_name(one['name'])}, {response}", one) for one in criteria]
    for name, owner in owners:
        for end, order in _ENDS.items():
            if isinstance(owner.get(f"rationale_tokens{end}"), int | list):
                written = recorded_rationales(owner, end)
                for one in written[:_MAX_RATIONALES]:
                    cut = ", cut off" if one.cut else ""
                    yield f"Rationale{name}{order} ({count(one.tokens, 'token')}{cut})", one.text


def _number(value: Any) -> str:
    return decimal(value if isinstance(value, int | float) else None)


def _name(name: Any) -> str:
    return _cut(one_line(str(name)), _MAX_NAME)


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[:size]}… ({len(text) - size:,} characters more)"


def _logistic(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-score)) if score > -700 else 0.0
