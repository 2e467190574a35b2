"""A prompt template: what turns a sample into the text that a judge reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.labeling.prompts.jinja import PAIR, SCALE, SINGLE, Body
from preftree.labeling.terminal import count
from preftree.labeling.types import Message, RationaleRequest, ScoreRequest

DEFAULT_PREAMBLE = "detailed"
# Headings and a closing question are shorter; instructions are longer.
_SHORT_TEXT = 200
_SHORTEST_FENCE = 3
_BACKTICKS = re.compile("`+")


@dataclass(frozen=True)
class Exemplar:
    """A solved sample shown before the real one: the sample's variables, the answer, and what explains it."""

    variables: Mapping[str, str]
    label: str
    rationale: str | None = None


@dataclass(frozen=True)
class Explaining:
    """What lets the judge explain before it answers. ask: what it is told behind the sample. start: how what it writes
    begins. ending: what stands between that and the label. stop: texts that end what it writes.
    """

    ask: str
    start: str
    ending: str
    stop: tuple[str, ...] = ()

    def solved(self, rationale: str, label: str) -> str:
        """An exemplar's answer, as a judge would go on behind `start`: words begin with their space."""
        space = "" if self.start[-1].isspace() else " "
        return f"{self.start}{space}{rationale}{self.ending}{label}"


@dataclass(frozen=True)
class Template:
    """A parsed template file. name: for messages. source: the whole file. sample: its last part, in Jinja.

    labels: two or more; of a template for pairs, the first response's and the second's. values: the number that each
    label stands for, or None. explaining: None where it has no texts for that. lines: where in the file each key of its
    head is. fenced: whether responses are shown between fences, see `fenced_text`.
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
    explaining: Explaining | None
    sample: Body
    lines: Mapping[str, int]
    fenced: bool = False

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
        fenced = {"fenced": True} if self.fenced else {}
        return fenced | {
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
        reasoning: Sampling | None = None,
    ) -> ScoreRequest:
        """The request that shows `responses` in this order, behind the first `exemplars` exemplars.

        reasoning: lets the judge explain before it answers. InputError for what the template has no texts for.
        """
        if preamble not in self.preambles:
            raise self.error("preamble", f"there is no preamble {preamble!r}; it has {', '.join(self.preambles)}")
        if not 0 <= exemplars <= len(self.exemplars):
            raise self.error(
                "exemplars", f"it has {count(len(self.exemplars), 'exemplar')}, {exemplars} were asked for"
            )
        explaining = None if reasoning is None else self._explaining()
        names = SINGLE if self.num_responses == 1 else PAIR
        variables = {"prompt": conversation_text(prompt), **dict(zip(names, responses, strict=True))}
        if principle is not None:
            variables["principle"] = principle
        solved = (self._solved(number, explaining) for number in range(exemplars))
        user = "\n\n".join((self.preambles[preamble], *solved, self._shown(variables, explaining)))
        if reasoning is None or explaining is None:
            return ScoreRequest(user, self.answer, self.labels, self.system, title)
        rationale = RationaleRequest(explaining.ending, explaining.stop, reasoning)
        return ScoreRequest(user, explaining.start, self.labels, self.system, title, rationale)

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
                length += len(piece.text)
            longest = max(longest, (line, length), key=lambda found: found[1])
        return longest

    def _explaining(self) -> Explaining:
        if self.explaining is None:
            raise self.error("answer", "there is no 'rationale' for --cot; it needs one with 'ask' and 'start'")
        return self.explaining

    def _solved(self, number: int, explaining: Explaining | None) -> str:
        """An exemplar with its answer, which is explained where the judge is to explain."""
        exemplar = self.exemplars[number]
        if explaining is None:
            answer = f"{self.answer}{exemplar.label}"
        elif exemplar.rationale is None:
            raise self.error("exemplars", f"exemplar {number + 1} has no 'rationale' to show with --cot; ask for fewer")
        else:
            answer = explaining.solved(exemplar.rationale, exemplar.label)
        return f"{self._shown(exemplar.variables, explaining)}\n\n{answer}"

    def _shown(self, variables: Mapping[str, str], explaining: Explaining | None) -> str:
        if self.fenced:
            responses = (*PAIR, *SINGLE)
            variables = {name: fenced_text(text) if name in responses else text for name, text in variables.items()}
        sample = self.sample.render({**variables, "low": self.labels[0], "high": self.labels[-1]})
        return sample if explaining is None else f"{sample}\n\n{explaining.ask}"


def fenced_text(text: str) -> str:
    """A text between two lines of backticks, three or more, that are longer than any run of backticks in it."""
    longest = max(map(len, _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(_SHORTEST_FENCE, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def conversation_text(messages: Sequence[Message]) -> str:
    """A conversation as text. A single user message is itself; of several, each is headed by its role."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)
