"""An engine without a model: what it writes and scores follows from the ids alone, as the real one's does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preftree import Planner
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.generation import Generation, Sampling
from preftree.engine.results import LabelScores
from preftree.labeling.judge.judge import Judge

Ids = Sequence[int]


@dataclass(frozen=True)
class FakeReasoned:
    generations: list[list[Generation]]
    scores: LabelScores
    prefill_rows: int


class FakeEngine:
    """Every third rationale is as long as it may be. asked: the sampling of each stream, and the endings in it."""

    device = device_name = dtype = None

    def __init__(self) -> None:
        self.asked: list[Sampling] = []
        self.endings: set[tuple[int, ...]] = set()
        self.calls = 0

    def score_stream(
        self, calls: Iterable[tuple[Sequence[Ids], Any]], prefix_cache: bool = True
    ) -> Iterator[LabelScores]:
        for prompts, labels in calls:
            self.calls += 1
            written = [Generation([], str(list(map(int, ids))), "stop") for ids in prompts]
            yield _scores(prompts, [thinks(one, options) for one, options in zip(written, labels, strict=True)])

    def generate_and_score_stream(
        self,
        calls: Iterable[tuple[Sequence[Ids], Sequence[Ids] | None, Any, Any]],
        sampling: Sampling,
        progress: Any = None,
    ) -> Iterator[FakeReasoned]:
        self.asked.append(sampling)
        for prompts, endings, labels, _ in calls:
            self.calls += 1
            self.endings |= {tuple(ending) for ending in endings or ()}
            written = [[wrote(ids, sample, sampling) for sample in range(sampling.n)] for ids in prompts]
            asked = [[] for _ in prompts] if labels is None else labels
            rows = [thinks(one, options) for ones, options in zip(written, asked, strict=True) for one in ones]
            tokens = sum(len(one.ids) for ones in written for one in ones)
            if progress:
                progress(tokens, len(rows))
            yield FakeReasoned(written, _scores(prompts, rows), sum(map(len, prompts)))


def wrote(prompt: Ids, sample: int, sampling: Sampling) -> Generation:
    digest = hashlib.sha256(repr((list(map(int, prompt)), sample, sampling.seed)).encode()).hexdigest()
    whole = int(digest, 16) % 3 == 0
    ids = list(digest.encode()) * (sampling.max_new_tokens // 64 + 1)
    ids = ids[: sampling.max_new_tokens if whole else sampling.max_new_tokens // 2]
    return Generation(ids, f" because {digest[:8]}", "length" if whole else "stop")


def thinks(written: Generation, labels: Sequence[Ids]) -> list[float]:
    """Log-probabilities of the labels behind what was written."""
    shares = [1 + hashlib.sha256(f"{written.text}{list(label)}".encode()).digest()[0] for label in labels]
    return [float(np.float32(np.log(share / sum(shares) * 0.9))) for share in shares]


def _scores(prompts: Sequence[Ids], rows: list[list[float]]) -> LabelScores:
    logprob = np.array(rows, dtype=np.float32).reshape(len(rows), len(rows[0]) if rows else 0)
    tokens = sum(map(len, prompts))
    return LabelScores(logprob, logprob, np.exp(logprob).sum(1), tokens, tokens + 5 * len(rows), 2, 0.5)


def fake_scorer(model: str, engine: FakeEngine | None, batch_tokens: int | None = None) -> Judge:
    """A scorer with the tokenizer of `model`."""
    checkpoint = open_checkpoint(model)
    planner = Planner(checkpoint, batch_tokens=batch_tokens)
    return Judge(checkpoint, planner, engine, rendering="auto", prefix_cache=True)  # type: ignore[arg-type]
