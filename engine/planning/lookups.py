"""Labels as lookups of single tokens, and the way back from looked-up logits to labels. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preftree.engine.planning.trie import TokenIds

Labels = Sequence[Sequence[int]]  # of one prompt: the token ids of each label


@dataclass(frozen=True)
class LookUps:
    """A label of m tokens is m lookups: each token after the prompt and the tokens before it, teacher-forced.

    sequences: the distinct token sequences after which something is looked up. sequence, prompt, label, token:
    [lookups] int64; prompt counts within the batch. shape: prompts, and labels of the prompt that has most.
    """

    sequences: list[TokenIds]
    sequence: np.ndarray
    prompt: np.ndarray
    label: np.ndarray
    token: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def build(cls, prompts: Sequence[TokenIds], labels: Sequence[Labels]) -> LookUps:
        sequences: list[TokenIds] = []
        places: dict[tuple[int, tuple[int, ...]], int] = {}
        look_ups = []
        for index, (ids, options) in enumerate(zip(prompts, labels, strict=True)):
            for option, label in enumerate(options):
                for length, token in enumerate(label):
                    forced = tuple(label[:length])
                    place = places.setdefault((index, forced), len(sequences))
                    if place == len(sequences):
                        sequences.append(np.concatenate([ids, np.array(forced, dtype=np.int64)]) if length else ids)
                    look_ups.append((place, index, option, token))
        sequence, prompt, label_of, token_of = np.ascontiguousarray(np.array(look_ups, dtype=np.int64).T)
        shape = (len(prompts), max(len(options) for options in labels))
        return cls(sequences, sequence, prompt, label_of, token_of, shape)

    def by_token(self, logprob: np.ndarray, top: np.ndarray) -> list[list[tuple[np.ndarray, ...]]]:
        """Token ids, log-probabilities and what was most probable instead, of each label of each prompt.

        logprob, top: [lookups]. A label's lookups follow each other, as do a prompt's labels.
        """
        begins = np.flatnonzero(np.diff(self.prompt, prepend=-1) | np.diff(self.label, prepend=-1))
        parts = zip(*(np.split(values, begins[1:]) for values in (self.token, logprob, top)), strict=True)
        found: list[list[tuple[np.ndarray, ...]]] = [[] for _ in range(self.shape[0])]
        for prompt, part in zip(self.prompt[begins], parts, strict=True):
            found[prompt].append(part)
        return found

    def by_label(self, logit: np.ndarray, normaliser: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """logit, normaliser: [lookups] float64. Returns log-probability and logit of every label, [prompts, labels].

        Log-probabilities of a label's tokens are summed; only labels of one token have a logit. nan elsewhere.
        """
        where = (self.prompt, self.label)
        length = np.zeros(self.shape, dtype=np.int64)
        np.add.at(length, where, 1)
        summed = np.zeros(self.shape)
        np.add.at(summed, where, logit - normaliser)
        raw = np.full(self.shape, np.nan)
        raw[where] = logit
        return np.where(length > 0, summed, np.nan), np.where(length == 1, raw, np.nan)
