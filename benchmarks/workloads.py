"""Real pairs as judging prompts, made by the project's own labelling code: 2 or 22 prompts a pair."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.methods.salmon import Salmon
from preftree.labeling.principles.sets import LABELLED, load_principles
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.types import Pair

TEMPLATE = "general"
# By prompts a pair: pairwise soft labels, and method salmon with its 11 principles.
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


def load(name: str, data: Path, num_pairs: int, scorer: Judge) -> Workload:
    """Workload `name` over the first `num_pairs` good rows of `data` that fit into the model's context.

    Raises InputError when the file cannot be read, the workload is unknown, or no row is good.
    """
    if name not in WORKLOADS:
        raise InputError(f"workload {name!r} is not known; use {' or '.join(WORKLOADS)}")
    started = time.perf_counter()
    pairs = list(islice(_encoded_pairs(method_of(name), data, scorer), num_pairs))
    if not pairs:
        raise InputError(f"{data}: no row can be asked about with this model")
    prompts = tuple(replace(prompt, pair=number) for number, pair in enumerate(pairs) for prompt in pair)
    return Workload(name, prompts, time.perf_counter() - started)


def reasoning_prompts(data: Path, pairs: int, max_tokens: int, scorer: Judge) -> list[list[int]]:
    """Token ids of both orders of the first `pairs` rows, up to where a rationale begins, as --cot asks for it.

    Raises InputError where there is no row.
    """
    method = Rlaif(load_template(TEMPLATE), reasoning=Sampling(max_new_tokens=max_tokens))
    rows = islice((item for item in Dataset.open(data).read() if isinstance(item, Pair)), pairs)
    prompts = [scorer.encode(request).ids for pair in rows for request in method.requests(pair)]
    if not prompts:
        raise InputError(f"{data}: no row can be asked about")
    return prompts


def method_of(name: str) -> Rlaif | Salmon:
    """What asks the prompts of workload `name`."""
    if name == "2":
        return Rlaif(load_template(TEMPLATE))
    return Salmon(load_template("salmon"), load_principles(LABELLED))


def _encoded_pairs(method: Rlaif | Salmon, data: Path, scorer: Judge) -> Iterator[Sequence[JudgePrompt]]:
    for item in Dataset.open(data).read():
        if not isinstance(item, Pair):
            continue
        try:
            asked = [scorer.encode(request) for request in method.requests(item)]
        except InputError:  # longer than the model's context
            continue
        # The first half has A first.
        yield [JudgePrompt(one.ids, one.labels, 0, 2 * place // len(asked)) for place, one in enumerate(asked)]
