"""Real pairs as judging prompts, made by the project's own labelling code: 2 or 22 prompts a pair."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from engine.errors import InputError
from labeling.data.reader import read
from labeling.methods.rlaif import Rlaif
from labeling.prompts import load_template
from labeling.scorer import Scorer
from labeling.types import Pair, ScoreRequest

TEMPLATE = "general"
# One sentence each, shown after the responses, so that a judge differs from its neighbour in its last tokens only.
CRITERIA = (
    "Judge only which response is more helpful and does what the prompt asks for.",
    "Judge only which response is more concise and leaves out what nobody needs.",
    "Judge only which response is more honest, and accurate in every fact that it states.",
    "Judge only which response is more ethical and careful not to hurt anybody.",
    "Judge only which response sounds more natural, as if a person had spoken.",
    "Judge only which response is more specific and names things instead of hinting at them.",
    "Judge only which response is more engaging and makes you want to read on.",
    "Judge only which response is more methodical and goes forward in clear steps.",
    "Judge only which response serves readers of several languages better.",
    "Judge only which response is more creative and finds an idea of its own.",
    "Judge only which response is more comprehensive and covers all that was asked.",
)
WORKLOADS = ("2", "22")


@dataclass(frozen=True)
class JudgePrompt:
    """ids: token ids. labels: token ids of each label. pair: number of its pair. order: 0 with A first, else 1."""

    ids: list[int]
    labels: list[list[int]]
    pair: int
    order: int


@dataclass(frozen=True)
class Workload:
    """prompts: of all pairs, a pair's together and in an order's together. encode_seconds: templates and tokenizer."""

    name: str
    prompts: tuple[JudgePrompt, ...]
    encode_seconds: float

    @property
    def num_pairs(self) -> int:
        return len({prompt.pair for prompt in self.prompts})

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt.ids) for prompt in self.prompts)

    @property
    def ids(self) -> list[list[int]]:
        return [prompt.ids for prompt in self.prompts]

    @property
    def labels(self) -> list[list[list[int]]]:
        return [prompt.labels for prompt in self.prompts]

    def first(self, num_pairs: int) -> Workload:
        """The same workload of the first `num_pairs` pairs."""
        return replace(self, prompts=tuple(prompt for prompt in self.prompts if prompt.pair < num_pairs))


def load(name: str, data: Path, num_pairs: int, scorer: Scorer) -> Workload:
    """Workload `name` over the first `num_pairs` good rows of `data` that fit into the model's context.

    Raises InputError when the file cannot be read, the workload is unknown, or no row is good.
    """
    if name not in WORKLOADS:
        raise InputError(f"workload {name!r} is not known; use {' or '.join(WORKLOADS)}")
    started = time.perf_counter()
    method = Rlaif(load_template(TEMPLATE))
    pairs = list(islice(_encoded_pairs(name, data, method, scorer), num_pairs))
    if not pairs:
        raise InputError(f"{data}: no row can be asked about with this model")
    prompts = tuple(replace(prompt, pair=number) for number, pair in enumerate(pairs) for prompt in pair)
    return Workload(name, prompts, time.perf_counter() - started)


def requests(name: str, pair: Pair, method: Rlaif) -> list[tuple[int, ScoreRequest]]:
    """What workload `name` asks about a pair, each with its order."""
    both = list(enumerate(method.requests(pair)))
    if name == "2":
        return both
    return [
        (order, replace(request, user=f"{request.user}\n\n{criterion}"))
        for order, request in both
        for criterion in CRITERIA
    ]


def _encoded_pairs(name: str, data: Path, method: Rlaif, scorer: Scorer) -> Iterator[Sequence[JudgePrompt]]:
    for item in read(data):
        if not isinstance(item, Pair):
            continue
        try:
            asked = [(order, scorer.encode(request)) for order, request in requests(name, item, method)]
        except InputError:  # longer than the model's context
            continue
        yield [JudgePrompt(encoded.ids, encoded.labels, 0, order) for order, encoded in asked]
