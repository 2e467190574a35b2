"""Stand-ins for the template, the method and the model: deterministic and instant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

from preftree.engine.errors import InputError
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Pair, PairLabel, RequestScores, Sample, ScoreRequest

# A template of one's own, with a place for more at its end.
MINE = """---
description: Mine.
labels: ["1", "2"]
preamble: Choose.
answer: "Better: "
---
{{ prompt }}
One: {{ response_1 }}
Two: {{ response_2 }}
%s
"""


@dataclass(frozen=True)
class FakeTemplate:
    name: str = "fake"
    source: str = "fake template, {{ prompt }}"
    sha256: str = "0" * 64
    invert: bool = False
    labels: tuple[str, str] = ("1", "2")


@dataclass(frozen=True)
class FakeMethod:
    """Asks with nothing but the responses; p of the first is the first label's probability."""

    template: FakeTemplate = FakeTemplate()

    name: ClassVar[str] = "rlaif"
    takes: ClassVar[tuple[type[Sample], ...]] = (Pair,)
    columns: ClassVar[Mapping[str, ArrowType]] = PairLabel.COLUMNS

    def record(self) -> dict[str, Any]:
        return {"template": vars(self.template)}

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        return Rlaif.answers(self, values)  # type: ignore[arg-type]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        return []

    def requests(self, pair: Sample) -> tuple[ScoreRequest, ScoreRequest]:
        assert isinstance(pair, Pair)
        texts = (pair.prompt[-1].content, pair.response_a, pair.response_b)
        one = ScoreRequest("|".join(texts), "Answer: ", ("1", "2"), title="A first")
        two = ScoreRequest("|".join((texts[0], texts[2], texts[1])), "Answer: ", ("1", "2"), title="B first")
        return one, two

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> PairLabel:
        first, second = scores
        (asked,), (swapped,) = first.answers, second.answers
        if asked.logprob[0] != asked.logprob[0]:
            raise InputError("the scores are not finite")
        p_first, p_second = asked.logprob[0], 1.0 - swapped.logprob[0]
        return PairLabel(
            (p_first + p_second) / 2,
            p_first,
            p_second,
            first.label_mass,
            second.label_mass,
            first.prompt_tokens + second.prompt_tokens,
        )


@dataclass(frozen=True)
class FakeEncoded:
    ids: list[int]
    labels: list[list[int]] = field(default_factory=lambda: [[11], [12]])
    rationale: None = None


@dataclass
class FakeUsage:
    prompt_tokens: int = 0
    unique_tokens: int = 0
    seconds: float = 0.0
    generated_tokens: int = 0
    rationales: int = 0
    cut_rationales: int = 0


@dataclass(frozen=True)
class FakePlan:
    prompts: int
    prompt_tokens: int
    rows: int
    batches: int = 1
    peak_bytes: int = 3 * 1024**2
    weight_bytes: int = 5 * 1024**2
    streamed_bytes: int = 0
    compute_share: float = 1.0


class FakeScorer:
    """A byte is a token; the "probability" of a label comes from a hash of the prompt.

    A prompt with "TOO LONG" in it cannot be encoded, "NOT FINITE" scores nan, "BOOM" breaks the engine.
    """

    def __init__(self, window_tokens: int = 4096) -> None:
        self.window_tokens = window_tokens
        self.usage = FakeUsage()
        self.calls: list[int] = []

    def encode(self, request: ScoreRequest) -> FakeEncoded:
        if "TOO LONG" in request.user:
            raise InputError("the prompt has 9,000 tokens, the model's context is 8,192")
        return FakeEncoded(list(request.user.encode()))

    def render(self, request: ScoreRequest) -> str:
        return f"<|user|>{request.user}<|answer|>{request.answer_start}"

    def score(self, encoded: Sequence[FakeEncoded]) -> list[RequestScores]:
        self.calls.append(len(encoded))
        self.usage.prompt_tokens += sum(len(entry.ids) for entry in encoded)
        self.usage.unique_tokens += sum(len(entry.ids) for entry in encoded) // 2
        self.usage.seconds += 0.5
        return [self._score_one(bytes(entry.ids)) for entry in encoded]

    def score_stream(
        self, windows: Iterable[Sequence[FakeEncoded]], progress: Any = None
    ) -> Iterator[list[RequestScores]]:
        return (self.score(window) if window else [] for window in windows)

    @contextmanager
    def traced(self, path: Path) -> Iterator[None]:
        yield
        path.write_text("{}")

    def unique_tokens(self, encoded: Sequence[FakeEncoded]) -> int:
        return sum(len(entry.ids) for entry in encoded)

    def plan(self, encoded: Sequence[FakeEncoded]) -> FakePlan:
        tokens = sum(len(entry.ids) for entry in encoded)
        return FakePlan(len(encoded), tokens, tokens // 2)

    def describe(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {"model": "fake", "model_sha256": "1" * 64, "rendering": "plain", "versions": {"fake": "1"}}

    def _score_one(self, prompt: bytes) -> RequestScores:
        if b"BOOM" in prompt:
            raise RuntimeError("the engine broke")
        share = hashlib.sha256(prompt).digest()[0] / 255
        logprob = float("nan") if b"NOT FINITE" in prompt else share
        return RequestScores.single((logprob, 1.0 - share), 0.9, len(prompt))


def open_fake_method(options: JudgeOptions, recorded: Mapping[str, Any] | None = None) -> FakeMethod:
    return FakeMethod(
        FakeTemplate() if recorded is None else FakeTemplate(**recorded["template"] | {"labels": ("1", "2")})
    )


def fake_scorer_factory(scorer: FakeScorer | None = None) -> Callable[..., AnyJudge]:
    """It gets back what it encoded itself, which is no `Encoded`."""
    return lambda options, weights=True: cast(AnyJudge, scorer or FakeScorer())


def row(**changes: Any) -> dict[str, Any]:
    """A good row; a value of None in `changes` removes the column."""
    whole = {"id": "x", "prompt": "Which?", "response_a": "this", "response_b": "that", **changes}
    return {name: value for name, value in whole.items() if value is not None}


def write_rows(path: Path, rows: Sequence[dict[str, Any] | bytes]) -> Path:
    """Rows as JSON lines; bytes are written as they are."""
    lines = [entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path
