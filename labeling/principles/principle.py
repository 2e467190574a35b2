"""A principle to judge by: a statement about a response and, as a rule, its opposite."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.terminal import visible

NEGATED = "not "
MAX_STATEMENT, MAX_NAME = 2_000, 100

_CONTROL_STRING = re.compile(r"<[|\uff5c].*?[|\uff5c]>|</?s>|\[/?INST\]")


@dataclass(frozen=True)
class Principle:
    """A principle. All strings are one line.

    Attributes:
        name: unique in its set, case apart.
        positive: the statement that is judged.
        negative: the opposite; None where there is none, so that the principle cannot be negated.
        weight: how much it counts among others, finite and at least 0; at 0 it is judged and never decides.
        tags: the named sets that it belongs to.
    """

    name: str
    positive: str
    negative: str | None = None
    weight: float = 1.0
    tags: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """For run.json, without a negative statement where there is none."""
        record = asdict(self) | {"tags": list(self.tags)}
        return {name: value for name, value in record.items() if value is not None}

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> Principle:
        """The principle of a `record`."""
        return cls(**{**record, "tags": tuple(record["tags"])})

    def stated(self, negated: bool) -> str:
        """The positive or the negative statement. Raises InputError for a negative one that does not exist."""
        if not negated:
            return self.positive
        if self.negative is None:
            raise InputError(f"principle {self.name!r} has no negative statement; add `negative` to it in its file")
        return self.negative


def statement_problem(text: str) -> str | None:
    """Why a text cannot be a statement, or None.

    No text of ours or of a row can become a control token; one that looks like it is somebody's mistake all the same.
    """
    if not text.strip():
        return "is empty"
    if len(text) > MAX_STATEMENT:
        return f"has {len(text):,} characters, more than {MAX_STATEMENT:,}"
    for character in text:
        if visible(character) != character:
            return f"holds the control character U+{ord(character):04X}"
    if found := _CONTROL_STRING.search(text):
        return f"holds the control string {found.group()!r}"
    return None


def name_problem(text: str) -> str | None:
    """Why a text cannot name a principle, or None."""
    if problem := statement_problem(text):
        return problem
    if len(text) > MAX_NAME:
        return f"has {len(text):,} characters, more than {MAX_NAME}"
    if one_spaced(text).casefold().startswith(NEGATED):
        return f"begins with {NEGATED!r}, which asks for the negative statement of another principle"
    return None


def weight_problem(weight: float) -> str | None:
    """Why a number cannot be a weight, or None."""
    return None if math.isfinite(weight) and weight >= 0 else "must be a finite number, at least 0"


def one_spaced(text: str) -> str:
    """Every run of white space as one space, as names and statements have it."""
    return " ".join(text.split())
