"""The vocabulary of labelling: immutable samples and labels.

What is made for every row is mostly a named tuple: a frozen dataclass takes four times as long to make.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.labeling.orders import orders_agree
from preftree.labeling.rationales import Rationale, rationale_values

Verdict = Literal["a", "b", "tie"]
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_FLIPPED: dict[str, Verdict] = {"a": "b", "b": "a", "tie": "tie"}


class Message(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: "system", "user" or "assistant".
        content: its text.
    """

    role: str
    content: str


class Pair(NamedTuple):
    """Two responses to one prompt.

    Attributes:
        id: unique in its file.
        prompt: the conversation so far; a plain string is one user message.
        response_a: the first response.
        response_b: the second response.
        gold: the better response according to a human, if known.
        extra: the row's other columns, passed through.
        line: 1-based line in the file, for messages; 0 when the pair did not come from a file.
    """

    id: str
    prompt: tuple[Message, ...]
    response_a: str
    response_b: str
    gold: Verdict | None = None
    extra: Mapping[str, Any] = _NOTHING
    line: int = 0

    def swap(self) -> Pair:
        """The same pair with A and B exchanged, gold included."""
        gold = _FLIPPED[self.gold] if self.gold else None
        return self._replace(response_a=self.response_b, response_b=self.response_a, gold=gold)


class Response(NamedTuple):
    """One response to one prompt; fields as in `Pair`."""

    id: str
    prompt: tuple[Message, ...]
    response: str
    extra: Mapping[str, Any] = _NOTHING
    line: int = 0


class ResponseSet(NamedTuple):
    """Two or more responses to one prompt, to be ranked; fields as in `Pair`."""

    id: str
    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    extra: Mapping[str, Any] = _NOTHING
    line: int = 0


class Prompt(NamedTuple):
    """A conversation that waits for its next answer; fields as in `Pair`."""

    id: str
    prompt: tuple[Message, ...]
    extra: Mapping[str, Any] = _NOTHING
    line: int = 0


Sample = Pair | Response | ResponseSet | Prompt


class Rejected(NamedTuple):
    """A row that gets no label, and why. `id` is None where the row did not even have one."""

    line: int
    reason: str
    id: str | None = None
    extra: Mapping[str, Any] = _NOTHING
    gold: Verdict | None = None


ArrowType = str | list[Any] | dict[str, Any]
"""Of a column: Arrow's name of a type; a list with the type of its elements; an object with the types of its fields."""


class Label(Protocol):
    """What a method says of a sample. prompt_tokens: of all its prompts."""

    @property
    def prompt_tokens(self) -> int: ...

    def values(self) -> Mapping[str, Any]:
        """By column: those that its method names."""


def verdict_at(p_a: float) -> Verdict:
    """A probability that A is better, binarised."""
    if p_a == 0.5:
        return "tie"
    return "a" if p_a > 0.5 else "b"


def verdicts_at(p_a: Any) -> Any:
    """`verdict_at` of every number of a NumPy array, as a pyarrow array."""
    import numpy as np
    import pyarrow as pa

    return pa.array(["b", "tie", "a"]).take(pa.array(1 + (p_a > 0.5).astype(np.int8) - (p_a < 0.5)))


@dataclass(frozen=True)
class PairLabel:
    """A pairwise soft label (RLAIF, Lee et al. 2023, section 2.1). Every probability is that of response A.

    Attributes:
        p_a: mean of both orders.
        p_a_first: with A shown first.
        p_a_second: with A shown second.
        label_mass_first: probability of the label tokens together, A shown first.
        label_mass_second: the same with A shown second.
        prompt_tokens: tokens of both prompts.
        rationales_first: what the judge wrote, A shown first.
        rationales_second: the same with A shown second.
    """

    p_a: float
    p_a_first: float
    p_a_second: float
    label_mass_first: float
    label_mass_second: float
    prompt_tokens: int
    rationales_first: tuple[Rationale, ...] = ()
    rationales_second: tuple[Rationale, ...] = ()

    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {
        "p_a": "double",
        "verdict": "string",
        "p_a_first": "double",
        "p_a_second": "double",
        "position_gap": "double",
        "consistent": "bool",
        "label_mass_first": "double",
        "label_mass_second": "double",
    }

    def values(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "p_a": self.p_a,
            "verdict": self.verdict,
            "p_a_first": self.p_a_first,
            "p_a_second": self.p_a_second,
            "position_gap": self.position_gap,
            "consistent": self.consistent,
            "label_mass_first": self.label_mass_first,
            "label_mass_second": self.label_mass_second,
        }
        if self.rationales_first or self.rationales_second:
            found |= rationale_values({"_first": self.rationales_first, "_second": self.rationales_second})
        return found

    @property
    def verdict(self) -> Verdict:
        """The binarised label."""
        return verdict_at(self.p_a)

    @property
    def position_gap(self) -> float:
        """p_a_first - p_a_second, in [-1, 1]: above 0 leans to the response shown first."""
        return self.p_a_first - self.p_a_second

    @property
    def consistent(self) -> bool:
        """Whether both orders prefer the same response."""
        return bool(orders_agree(self.p_a_first, self.p_a_second))


@dataclass(frozen=True)
class RationaleRequest:
    """That the judge explains before it answers. ending: text between what it writes and the label. stop: texts that
    end what it writes, and are no part of it.
    """

    ending: str
    stop: tuple[str, ...]
    reasoning: Sampling


SEAM = "\n\n"


@dataclass(frozen=True)
class ScoreRequest:
    """One prompt, and the labels whose probability behind it is wanted. All text is content: none of it can become a
    control token.

    user: what the judge is told. system: an optional system text. answer_start: the beginning of the judge's answer,
    such that a label comes next; with `rationale`, such that an explanation does. labels: the label texts; none where
    what is written as `rationale` is all that is wanted. title: what sets this prompt apart from the others of its
    sample, for people; the judge does not see it. history: turns before `user`. seam: what stands before the answer
    where no chat template says so. bos: whether a beginning-of-sequence token comes first; None as the model has it.
    """

    user: str
    answer_start: str
    labels: tuple[str, ...]
    system: str | None = None
    title: str = ""
    rationale: RationaleRequest | None = None
    history: tuple[Message, ...] = ()
    seam: str = SEAM
    bos: bool | None = None


@dataclass(frozen=True)
class RewardRequest:
    """One response for a reward model to read. All text is content, as in `ScoreRequest`.

    Attributes:
        prompt: the conversation before the response.
        response: the assistant's turn.
        principles: statements to follow, for a model that follows any.
        title: what sets this request apart from the others of its sample, for people.
    """

    prompt: tuple[Message, ...]
    response: str
    principles: tuple[str, ...] = ()
    title: str = ""

    labels: ClassVar[tuple[str, ...]] = ()
    rationale: ClassVar[RationaleRequest | None] = None


Request = ScoreRequest | RewardRequest


class Answer(NamedTuple):
    """logprob: of each label and no longer one that begins with it ("1", "10"), in nats, under the full vocabulary.
    label_mass: probability of any label at all. rationale: what stands before it, where the judge was to explain.
    """

    logprob: tuple[float, ...]
    label_mass: float
    rationale: Rationale | None = None

    def finite(self) -> tuple[float, ...]:
        """`logprob`. InputError where the model computed something that no label can be made of."""
        if not math.isfinite(sum(self.logprob, self.label_mass)):
            raise InputError("the model's label log-probabilities are not finite")
        return self.logprob


class RequestScores(NamedTuple):
    """answers: one, or one behind each rationale. prompt_tokens: of the prompt, without what the judge wrote."""

    answers: tuple[Answer, ...]
    prompt_tokens: int

    @classmethod
    def single(cls, logprob: tuple[float, ...], label_mass: float, prompt_tokens: int) -> RequestScores:
        """Of a request without rationale; see `Answer`."""
        return cls((Answer(logprob, label_mass),), prompt_tokens)

    @property
    def label_mass(self) -> float:
        """Mean over the answers."""
        if len(self.answers) == 1:
            return self.answers[0].label_mass
        return math.fsum(answer.label_mass for answer in self.answers) / len(self.answers)

    @property
    def rationales(self) -> tuple[Rationale, ...]:
        """Of the answers in their order; () where the judge was not to explain."""
        return tuple([answer.rationale for answer in self.answers if answer.rationale is not None])
