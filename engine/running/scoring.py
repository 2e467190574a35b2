"""Prompts and labels through the model: from trie to log-probabilities, one batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.planning.plan import build_plan
from engine.planning.trie import TokenIds, TokenTrie
from engine.requests import Labels
from engine.running.model import Model
from engine.running.prefix_cache import PrefixCache


@dataclass(frozen=True)
class _Queries:
    """Label tokens as look-ups. A label of m tokens is m of them: each token behind the prompt and the tokens before.

    sequences: the distinct token sequences behind which something is looked up. sequence, prompt, label, token:
    [look-ups] int64, prompt counted within the batch.
    """

    sequences: list[TokenIds]
    sequence: np.ndarray
    prompt: np.ndarray
    label: np.ndarray
    token: np.ndarray

    @classmethod
    def build(cls, prompts: Sequence[TokenIds], labels: Sequence[Labels]) -> _Queries:
        sequences: list[TokenIds] = []
        places: dict[tuple[int, tuple[int, ...]], int] = {}
        look_ups = []
        for index, (ids, options) in enumerate(zip(prompts, labels, strict=True)):
            for option, label in enumerate(options):
                for length, token in enumerate(label):
                    forced = tuple(label[:length])
                    place = places.setdefault((index, forced), len(sequences))
                    if place == len(sequences):
                        sequences.append(np.concatenate([ids, np.array(forced, dtype=np.int64)]))
                    look_ups.append((place, index, option, token))
        sequence, prompt, label_of, token_of = np.ascontiguousarray(np.array(look_ups, dtype=np.int64).T)
        return cls(sequences, sequence, prompt, label_of, token_of)


@dataclass(frozen=True)
class BatchScores:
    """logprob, logit: [prompts, labels] float64, nan where a prompt has fewer labels."""

    logprob: np.ndarray
    logit: np.ndarray


def score_batch(
    model: Model, prompts: Sequence[TokenIds], labels: Sequence[Labels], cache: PrefixCache | None, skipped: int
) -> BatchScores:
    """One trie, one forward pass. `skipped`: leading tokens of every prompt whose K/V the cache holds."""
    queries = _Queries.build(prompts, labels)
    trie = TokenTrie.build(queries.sequences, skipped)
    plan = build_plan(trie, model.layout).to(model.device)
    hidden = model.final_hidden(plan, cache)
    # The plan's final rows are the distinct ones in ascending order.
    place = np.searchsorted(np.unique(trie.final_row), trie.final_row)[queries.sequence]
    rows, tokens = (torch.from_numpy(array).to(model.device) for array in (place, queries.token))
    logits, normaliser = model.label_logits(hidden, rows, tokens)
    logit = logits.double().cpu().numpy()
    logprob = logit - normaliser.double().cpu().numpy()[place]

    shape = (len(prompts), max(len(options) for options in labels))
    where = (queries.prompt, queries.label)
    length = np.zeros(shape, dtype=np.int64)
    np.add.at(length, where, 1)
    summed = np.zeros(shape)
    np.add.at(summed, where, logprob)
    raw = np.full(shape, np.nan)
    raw[where] = logit
    return BatchScores(logprob=np.where(length > 0, summed, np.nan), logit=np.where(length == 1, raw, np.nan))


def compute_prefix(model: Model, tokens: TokenIds) -> PrefixCache:
    """Run `tokens` once and keep every layer's K/V."""
    plan = build_plan(TokenTrie.build([tokens]), model.layout).to(model.device)
    return PrefixCache(model.prefix_kv(plan))
