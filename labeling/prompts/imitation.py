"""Rows that hold lines of the template: their text cannot become control tokens, but it can look like the prompt's own.

A judge that reads "### Response 2" in the middle of the first response may take what follows for the second.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cached_property
from itertools import groupby
from typing import Any

from preftree.labeling.data.column import Column
from preftree.labeling.data.plain import PlainRows
from preftree.labeling.prompts.template import Template
from preftree.labeling.types import Pair, Response, ResponseSet, Sample

# Shorter ones, such as "Q:", stand in texts that imitate nothing.
_MIN_CHARACTERS = 6
_PLACE = "\0"
# Characters beyond ASCII whose `str.casefold` has some of ASCII.
_FOLDED_TO_ASCII = "\xdf\u0130\u0149\u017f\u01f0\u1e96-\u1e9a\u1e9e\u212a\ufb00-\ufb06"


class Imitations:
    """Tells which samples hold a line of these templates: the same text, white space around it and case apart.

    Lines are those of the sample and the answers. Of a line with variables, every stretch of fixed text is one, and
    a line of the sample's text imitates it, too, where it goes on after the stretch before the first variable.
    """

    def __init__(self, templates: Iterable[Template]) -> None:
        lines: set[str] = set()
        starts: set[str] = set()
        self._columns: list[Column] = []
        for template in templates:
            self._columns += template.columns
            for line in _fixed_text(template).splitlines():
                first, *others = line.split(_PLACE)
                lines.update(map(_bare, (first, *others)))
                starts.update([_bare(first)] if others else [])
        self._lines = frozenset(line for line in lines if len(line) >= _MIN_CHARACTERS)
        self._starts = tuple(line for line in starts if len(line) >= _MIN_CHARACTERS)
        # What those of one first letter begin with is looked for first: most texts do not have it.
        grouped = groupby(sorted(self._lines), key=lambda line: line[0])
        self._needles = [os.path.commonprefix([*group]) for _, group in grouped]  # noqa: RUF071

    def __call__(self, sample: Sample) -> bool:
        folded = _text(sample, self._columns).casefold()
        for needle in self._needles:
            if needle in folded:
                return self._is_in(folded)
        return False

    def among(self, rows: PlainRows, joined: Any) -> Any:
        """Which of these rows do: a NumPy array of bools. joined: all texts of each row as one, whatever is between.

        For templates that show no further columns.
        """
        from pyarrow import compute

        found = compute.match_substring_regex(joined, self._pattern).to_numpy(zero_copy_only=False).copy()
        suspected = rows.only(found)
        texts = zip(*(column.to_pylist() for column in (suspected.prompt, *suspected.responses)), strict=True)
        found[found] = [self._is_in("\n".join(shown).casefold()) for shown in texts]
        return found

    @cached_property
    def _pattern(self) -> str:
        """What every text has that imitates a line, as a regular expression of RE2."""
        others = _FOLDED_TO_ASCII if all(needle.isascii() for needle in self._needles) else r"\x{80}-\x{10ffff}"
        return "|".join([f"[{others}]", *(f"(?i:{re.escape(needle)})" for needle in self._needles)])

    def _is_in(self, folded: str) -> bool:
        if not any(line in folded for line in self._lines):
            return False
        lines = [line.strip() for line in folded.splitlines()]
        return not self._lines.isdisjoint(lines) or any(line.startswith(self._starts) for line in lines)


def _fixed_text(template: Template) -> str:
    """That of the sample, and the answers that a judge may give: _PLACE is where a text of the row comes."""
    known = {"low": template.labels[0], "high": template.labels[-1]}
    sample, answer = (part.fixed_text(known, _PLACE) for part in (template.sample, template.answer))
    return "\n".join((sample, *(f"{answer}{label}" for label in template.labels)))


def _bare(line: str) -> str:
    return line.strip().casefold()


def _text(sample: Sample, columns: Iterable[Column]) -> str:
    """Everything of a row that a prompt shows, text by text."""
    texts = [message.content for message in sample.prompt]
    texts += [value for column in columns if isinstance(value := column.value(sample.extra), str)]
    if isinstance(sample, Pair):
        texts += sample.response_a, sample.response_b
    elif isinstance(sample, Response):
        texts.append(sample.response)
    elif isinstance(sample, ResponseSet):
        texts += sample.responses
    return "\n".join(texts)
