"""Rubrics as data sets and files spell them, read into a `Rubric`.

A list of criteria, or an object that holds one as `rubrics`, `rubric` or `criteria` (open-instruct); also as a JSON
string. A criterion is a string, or an object: {name, text, weight} (verifiers), {title, description, weight}
(open-instruct), {criterion, points} (HealthBench).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.row import name_of, quoted
from preftree.labeling.principles.principle import MAX_NAME, one_spaced, statement_problem
from preftree.labeling.rubrics.rubric import Criterion, Rubric

MAX_CRITERIA = 200
MAX_WEIGHT = 1e9

_LISTS = ("rubrics", "rubric", "criteria")
_NAMES, _TEXTS, _WEIGHTS = ("name", "title"), ("text", "description", "criterion"), ("weight", "points")
_IGNORED = ("id", "type", "tags")
_SHAPE = "must be a list of criteria, such as [{name, text, weight}, ...]"


def rubric_of(value: Any) -> Rubric:
    """The rubric in a JSON value. InputError, in part of a line, for the first thing that is wrong with it."""
    entries = _entries(value)
    if not entries:
        raise InputError("it holds no criteria")
    if len(entries) > MAX_CRITERIA:
        raise InputError(f"it holds {len(entries):,} criteria; {MAX_CRITERIA} is the limit")
    found = [_criterion(entry, number) for number, entry in enumerate(entries, 1)]
    _check_names([name for name, _, _ in found])
    weights = [weight for _, _, weight in found if weight is not None]
    if weights and len(weights) < len(found):
        number = next(number for number, entry in enumerate(found, 1) if entry[2] is None)
        raise InputError(f"criterion {number} has no weight and others have one; give one to all or to none")
    if weights and max(weights) <= 0:
        said = "all weights are 0" if not any(weights) else "no weight is above 0: state a fault as its opposite"
        raise InputError(f"{said}; no response could earn anything")
    criteria = (Criterion(name, text, 1.0 if weight is None else weight) for name, text, weight in found)
    return Rubric(tuple(criteria), weighted=bool(weights))


def _entries(value: Any) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InputError(f"a text must be JSON and {quoted(value)} is none; it {_SHAPE}") from None
    if isinstance(value, Mapping):
        value = next((value[name] for name in _LISTS if value.get(name) is not None), value)
    if not isinstance(value, list | tuple):
        raise InputError(f"it {_SHAPE}, found {name_of(value)}")
    return list(value)


def _criterion(entry: Any, number: int) -> tuple[str, str, float | None]:
    """Name, text and weight, None where there is none."""
    what = f"criterion {number}"
    if isinstance(entry, str):
        text = _text(entry, what)
        return text, text, None
    if not isinstance(entry, Mapping):
        raise InputError(f"{what} must be a text or an object, found {name_of(entry)}")
    given = {name: value for name, value in entry.items() if value is not None}
    known = (*_NAMES, *_TEXTS, *_WEIGHTS, *_IGNORED)
    if unknown := next((name for name in given if name not in known), None):
        raise InputError(f"{what} has an unknown field {quoted(unknown)}; known: {', '.join(known)}")
    spelled = [_spelled(given, names, what) for names in (_NAMES, _TEXTS, _WEIGHTS)]
    if spelled[1] is None:
        raise InputError(f"{what} has no text; it must be its {', '.join(_TEXTS[:-1])} or {_TEXTS[-1]}")
    name, written, weight = (None if one is None else given[one] for one in spelled)
    text = _text(written, what)
    return text if name is None else _name(name, what), text, None if weight is None else _weight(weight, what)


def _spelled(given: Mapping[str, Any], names: tuple[str, ...], what: str) -> str | None:
    """Which of the names of one field is there."""
    there = [name for name in names if name in given]
    if len(there) > 1:
        raise InputError(f"{what} has {there[0]} and {there[1]}, which are the same field")
    return there[0] if there else None


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"the text of {what} must be a string, found {name_of(value)}")
    if problem := statement_problem(value):
        raise InputError(f"{what} {problem}")
    return one_spaced(value)


def _name(value: Any, what: str) -> str:
    name = _text(value, f"the name of {what}")
    if len(name) > MAX_NAME:
        raise InputError(f"the name of {what} has {len(name):,} characters, more than {MAX_NAME}")
    return name


def _weight(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"the weight of {what} must be a number, found {name_of(value)}")
    if not -MAX_WEIGHT <= value <= MAX_WEIGHT:
        raise InputError(f"the weight of {what} must be from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
    return float(value)


def _check_names(names: list[str]) -> None:
    """One name for two criteria would be one figure of both."""
    places: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        first = places.setdefault(name.casefold(), number)
        if first != number:
            raise InputError(f"criteria {first} and {number} are both called {quoted(name)}")
