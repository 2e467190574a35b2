"""A prompt template: what turns a sample into the text that a judge reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import InputError
from labeling.display import count
from labeling.templating.body import PAIR, SCALE, SINGLE, Body
from labeling.types import Message, ScoreRequest

DEFAULT_PREAMBLE = "detailed"
# Headings and a closing question are shorter; instructions are longer.
_SHORT_TEXT = 200


@dataclass(frozen=True)
class Exemplar:
    """A solved sample shown before the real one: the sample's variables, and the answer."""

    variables: Mapping[str, str]
    label: str


@dataclass(frozen=True)
class Template:
    """A parsed template file. name: for messages. source: the whole file. sample: its last part, in Jinja.

    labels: two or more; of a template for pairs, the first response's and the second's. values: the number that each
    label stands for, or None. lines: where in the file each key of its head is.
    """

    name: str
    source: str
    description: str
    labels: tuple[str, ...]
    values: tuple[float, ...] | None
    invert: bool
    system: str | None
    preambles: Mapping[str, str]
    exemplars: tuple[Exemplar, ...]
    answer: str
    sample: Body
    lines: Mapping[str, int]

    @property
    def body(self) -> str:
        """The sample as it is written."""
        return self.sample.source

    @property
    def variables(self) -> frozenset[str]:
        """Those of the sample."""
        return self.sample.variables

    @property
    def num_responses(self) -> int:
        """How many responses a prompt shows: 1 or 2."""
        return 1 if "response" in self.variables else 2

    @property
    def principle_is_last(self) -> bool:
        """Whether everything that all principles of a sample share comes before the principle."""
        shown = [names - set(SCALE) for names in (piece.names for piece in self.sample.pieces)]
        places = [place for place, names in enumerate(shown) if "principle" in names]
        shared = [place for place, names in enumerate(shown) if names - {"principle"}]
        return bool(places) and min(places) > max(shared)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """For run.json: enough to ask the same again."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "source": self.source,
            "invert": self.invert,
            "labels": list(self.labels),
        }

    def error(self, key: str, message: str) -> InputError:
        """Naming the file, and the line of `key` in it."""
        return InputError(f"{self.name}:{self.lines.get(key, 1)}: {message}")

    def request(
        self,
        prompt: Sequence[Message],
        *responses: str,
        preamble: str,
        exemplars: int,
        principle: str | None = None,
        title: str = "",
    ) -> ScoreRequest:
        """The request that shows `responses` in this order, behind the first `exemplars` exemplars."""
        if preamble not in self.preambles:
            raise self.error("preamble", f"there is no preamble {preamble!r}; it has {', '.join(self.preambles)}")
        if not 0 <= exemplars <= len(self.exemplars):
            raise self.error(
                "exemplars", f"it has {count(len(self.exemplars), 'exemplar')}, {exemplars} were asked for"
            )
        solved = (
            f"{self._shown(exemplar.variables)}\n\n{self.answer}{exemplar.label}"
            for exemplar in self.exemplars[:exemplars]
        )
        names = SINGLE if self.num_responses == 1 else PAIR
        variables = {"prompt": conversation_text(prompt), **dict(zip(names, responses, strict=True))}
        if principle is not None:
            variables["principle"] = principle
        parts = (self.preambles[preamble], *solved, self._shown(variables))
        return ScoreRequest("\n\n".join(parts), self.answer, self.labels, self.system, title)

    def warnings(self) -> list[str]:
        """What makes its prompts share less than they could, a line each."""
        found = []
        if "principle" in self.variables and not self.principle_is_last:
            line = next(piece.line for piece in self.sample.pieces if "principle" in piece.names)
            behind = "what comes behind it is computed anew for every principle; put it last"
            found.append(f"{self.name}:{line}: {{{{ principle }}}} does not come last: {behind}")
        line, characters = self._late_text()
        if characters > _SHORT_TEXT:
            late = f"{characters:,} characters of fixed text come behind a variable and are computed anew for every row"
            found.append(f"{self.name}:{line}: {late}; in the preamble they are computed once")
        return found

    def _late_text(self) -> tuple[int, int]:
        """The longest stretch of fixed text behind the first variable that differs between rows: line, characters."""
        longest = (0, 0)
        length = line = 0
        behind = False
        for piece in self.sample.pieces:
            if piece.names - set(SCALE):
                behind, line, length = True, piece.line, 0
            elif behind:
                length += piece.characters
            longest = max(longest, (line, length), key=lambda found: found[1])
        return longest

    def _shown(self, variables: Mapping[str, str]) -> str:
        return self.sample.render({**variables, "low": self.labels[0], "high": self.labels[-1]})


def conversation_text(messages: Sequence[Message]) -> str:
    """A conversation as text. A single user message is itself; of several, each is headed by its role."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)
