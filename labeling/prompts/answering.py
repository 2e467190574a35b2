"""How a template lets answers be explained, the judge's and those of its exemplars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from preftree.labeling.prompts.jinja import Body


@dataclass(frozen=True)
class Exemplar:
    """A solved sample shown before the real one: the template's variables, the answer, and what explains it."""

    variables: Mapping[str, str]
    label: str
    rationale: str | None = None


@dataclass(frozen=True)
class Explaining:
    """What lets the judge explain before it answers.

    Attributes:
        ask: what it is told after the sample, if anything.
        start: how what it writes begins.
        ending: what stands between that and the label.
        stop: texts that end what it writes.
    """

    ask: Body | None
    start: Body
    ending: Body
    stop: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Body, ...]:
        """Those that may show variables."""
        return tuple(part for part in (self.ask, self.start, self.ending) if part is not None)

    def solved(self, variables: Mapping[str, str], rationale: str, label: str) -> str:
        """An exemplar's answer, as a judge would go on after `start`: words begin with their space."""
        start = self.start.render(variables)
        space = "" if start[-1:].isspace() else " "
        return f"{start}{space}{rationale}{self.ending.render(variables)}{label}"
