"""A prompt template: what turns a sample into the text that a judge reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.labeling.data.column import Column
from preftree.labeling.prompts.answering import Exemplar, Explaining
from preftree.labeling.prompts.jinja import PAIR, PRINCIPLE, SCALE, SINGLE, Body
from preftree.labeling.terminal import count
from preftree.labeling.types import SEAM, Message, RationaleRequest, ScoreRequest
from preftree.labeling.values import known_names

DEFAULT_PREAMBLE = "detailed"
# Headings and a closing question are shorter; instructions are longer.
_SHORT_TEXT = 200
_SHORTEST_FENCE = 3
_BACKTICKS = re.compile("`+")
_NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Template:
    """A parsed template file.

    Attributes:
        name: for messages.
        source: the whole file.
        labels: two or more; of a template for pairs, the first response's and the second's.
        values: the number that each label stands for, or None.
        explaining: None where it has no texts for that.
        sample: the file's last part.
        lines: where in the file each key of its head is.
        seam: what stands before an answer; before the judge's own only where no chat template says so.
        bos: see `ScoreRequest`.
        exemplar_heading: stands before each exemplar.
        sample_heading: stands before a sample that follows exemplars.
        fenced: whether responses are shown between fences, see `fenced_text`.
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
    answer: Body
    explaining: Explaining | None
    sample: Body
    lines: Mapping[str, int]
    seam: str = SEAM
    bos: bool | None = None
    exemplar_heading: Body | None = None
    sample_heading: Body | None = None
    fenced: bool = False

    @property
    def body(self) -> str:
        """The sample as it is written."""
        return self.sample.source

    @property
    def variables(self) -> frozenset[str]:
        """Those of sample and answer."""
        return self.sample.variables | self.answer.variables

    @property
    def shows_principle(self) -> bool:
        """Whether prompts of different principles differ."""
        return not self.variables.isdisjoint(PRINCIPLE)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Of the row: those that its parts show, without which there is no prompt."""
        parts = (self.sample, self.answer, *(self.explaining.parts if self.explaining else ()))
        return tuple(dict.fromkeys(column for part in parts for column in part.columns))

    @property
    def num_responses(self) -> int:
        """How many responses a prompt shows: 1 or 2."""
        return 1 if "response" in self.sample.variables else 2

    @property
    def principle_is_last(self) -> bool:
        """Whether everything that all principles of a sample share comes before the principle and its name."""
        shown = [names - set(SCALE) for names in (piece.names for piece in self.sample.pieces)]
        places = [place for place, names in enumerate(shown) if not names.isdisjoint(PRINCIPLE)]
        shared = [place for place, names in enumerate(shown) if names - set(PRINCIPLE)]
        return self.shows_principle and min(places, default=len(shown)) > max(shared)

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
        row: Mapping[str, Any] = _NO_COLUMNS,
        principle: str | None = None,
        principle_name: str | None = None,
        title: str = "",
        reasoning: Sampling | None = None,
    ) -> ScoreRequest:
        """The request that shows `responses` in this order, after the first `exemplars` exemplars.

        Args:
            prompt: of the sample.
            responses: as many as the template shows.
            preamble: the name of one.
            exemplars: how many.
            row: the sample's other columns.
            principle: its statement.
            principle_name: its name.
            title: see `ScoreRequest`.
            reasoning: lets the judge explain before it answers.

        Raises:
            InputError: the template has no texts for that, or shows a column that the row has not.
        """
        if preamble not in self.preambles:
            raise self.error(
                "preamble", f"there is no preamble {preamble!r}; it has {known_names(preamble, self.preambles)}"
            )
        if not 0 <= exemplars <= len(self.exemplars):
            raise self.error(
                "exemplars", f"it has {count(len(self.exemplars), 'exemplar')}, {exemplars} were asked for"
            )
        explaining = None if reasoning is None else self._explaining()
        names = SINGLE if self.num_responses == 1 else PAIR
        given = {"prompt": conversation_text(prompt), **dict(zip(names, responses, strict=True))}
        given |= {column.name: column.text(row, self.name) for column in self.columns}
        judged_by = zip(PRINCIPLE, (principle, principle_name), strict=True)
        variables = self._completed(given | {name: text for name, text in judged_by if text is not None})
        user = self._user(variables, preamble, exemplars, explaining)
        rationale = None
        if reasoning is not None and explaining is not None:
            rationale = RationaleRequest(explaining.ending.render(variables), explaining.stop, reasoning)
        answer = (self.answer if explaining is None else explaining.start).render(variables)
        return ScoreRequest(user, answer, self.labels, self.system, title, rationale, seam=self.seam, bos=self.bos)

    def warnings(self) -> list[str]:
        """What makes its prompts share less than they could, a line each."""
        found = []
        if self.shows_principle and not self.principle_is_last:
            pieces = ((piece.line, name) for piece in self.sample.pieces for name in PRINCIPLE if name in piece.names)
            line, name = next(pieces)
            after = "what comes after it is computed anew for every principle; put it last"
            found.append(f"{self.name}:{line}: {{{{ {name} }}}} does not come last: {after}")
        line, characters = self._late_text()
        if characters > _SHORT_TEXT:
            late = f"{characters:,} characters of fixed text come after a variable and are computed anew for every row"
            found.append(f"{self.name}:{line}: {late}; in the preamble they are computed once")
        return found

    def _late_text(self) -> tuple[int, int]:
        """The longest stretch of fixed text after the first variable that differs between rows: line, characters."""
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
            raise self.error("answer", "there is no 'rationale' for --cot; it needs one with 'start'")
        return self.explaining

    def _user(self, variables: Mapping[str, str], preamble: str, exemplars: int, explaining: Explaining | None) -> str:
        """What the judge is told: preamble, exemplars, sample."""
        blocks = [self.preambles[preamble]]
        for number in range(exemplars):
            blocks += [_headed(self.exemplar_heading, number + 1), self._solved(number, explaining)]
        if exemplars:
            blocks.append(_headed(self.sample_heading, exemplars + 1))
        return "\n\n".join(block for block in (*blocks, self._shown(variables, explaining)) if block)

    def _solved(self, number: int, explaining: Explaining | None) -> str:
        """An exemplar with its answer, which is explained where the judge is to explain."""
        exemplar = self.exemplars[number]
        variables = self._completed(exemplar.variables)
        if explaining is None:
            answer = f"{self.answer.render(variables)}{exemplar.label}"
        elif exemplar.rationale is None:
            raise self.error("exemplars", f"exemplar {number + 1} has no 'rationale' to show with --cot; ask for fewer")
        else:
            answer = explaining.solved(variables, exemplar.rationale, exemplar.label)
        return f"{self._shown(variables, explaining)}{self.seam}{answer}"

    def _shown(self, variables: Mapping[str, str], explaining: Explaining | None) -> str:
        sample = self.sample.render(variables)
        if explaining is None or explaining.ask is None:
            return sample
        return f"{sample}\n\n{explaining.ask.render(variables)}"

    def _completed(self, variables: Mapping[str, str]) -> dict[str, str]:
        """With the ends of the labels, and responses between fences where they are wanted."""
        if self.fenced:
            responses = (*PAIR, *SINGLE)
            variables = {name: fenced_text(text) if name in responses else text for name, text in variables.items()}
        return {**variables, "low": self.labels[0], "high": self.labels[-1]}


def _headed(heading: Body | None, number: int) -> str:
    return "" if heading is None else heading.render({"number": str(number)})


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
