"""Two files of outputs of two models for the same instructions, as AlpacaEval has them: read as pairs."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from preftree.labeling.data.row import BadRow
from preftree.labeling.data.source import Rows, Source

_NEEDED = {"instruction", "output", "generator"}
_OF_ONE_MODEL = ("output", "generator")
_ROWS_LOOKED_AT = 20

_Prompt = tuple[str, str]


def are_side_by_side(sources: list[Source]) -> bool:
    """Whether these are the outputs of two models for the same instructions, by their first rows."""
    if len(sources) != 2:
        return False
    heads = [_head(source) for source in sources]
    if not all(head and all(row.keys() >= _NEEDED for row in head) for head in heads):
        return False
    generators, instructions = (
        [{str(row[name]) for row in head} for head in heads] for name in ("generator", "instruction")
    )
    are_two = len(generators[0]) == len(generators[1]) == 1 and generators[0] != generators[1]
    return are_two and bool(instructions[0] & instructions[1])


@dataclass(frozen=True)
class SideBySide:
    """See `preftree.labeling.data.source.Source`. Rows are those of the first file, each with its partner's output.

    The second file is held in memory.
    """

    first: Source
    second: Source

    @property
    def name(self) -> str:
        return f"{self.first.name} beside {self.second.name}"

    @property
    def format(self) -> str:
        return f"{self.first.format}, two files side by side (output_1 is of {self.first.name})"

    def rows(self, last: int = 0) -> Rows:
        """Rows without a partner are rejected; those of the second file come last."""
        partners, seen = self._partners(), Counter[_Prompt]()
        with closing(self.first.rows(last)) as rows:
            for number, row in rows:
                last = number
                if isinstance(row, BadRow):
                    yield number, row
                    continue
                prompt = _prompt(row)
                partner = partners.pop((prompt, seen[prompt]), None)
                seen[prompt] += 1
                alone = BadRow(f"no partner: {self.second.name} has no output for it")
                yield number, _joined(row, partner[1]) if partner else alone
        for number, (line, _) in enumerate(partners.values(), last + 1):
            yield number, BadRow(f"no partner: line {line} of {self.second.name} has an instruction of its own")
        return last + len(partners)

    def left_out(self) -> dict[str, str]:
        return {**self.first.left_out(), **self.second.left_out()}

    def _partners(self) -> dict[tuple[_Prompt, int], tuple[int, dict[str, Any]]]:
        """Line and row of the second file by prompt, and how many before it have the same; bad rows are none."""
        found, seen = {}, Counter[_Prompt]()
        with closing(self.second.rows()) as rows:
            for line, row in rows:
                if isinstance(row, dict):
                    prompt = _prompt(row)
                    found[prompt, seen[prompt]] = line, row
                    seen[prompt] += 1
        return found


def _prompt(row: dict[str, Any]) -> _Prompt:
    """What both models were given: the instruction, and the input that it is about."""
    return str(row.get("instruction")), str(row.get("input") or "")


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    shared = {name: value for name, value in one.items() if name not in _OF_ONE_MODEL}
    both = {f"{name}_{place}": row.get(name) for name in _OF_ONE_MODEL for place, row in ((1, one), (2, other))}
    return {**shared, **both}


def _head(source: Source) -> list[dict[str, Any]]:
    with closing(source.rows()) as rows:
        return [row for _, row in islice(rows, _ROWS_LOOKED_AT) if isinstance(row, dict)]
