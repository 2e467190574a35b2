"""The next token of every row, from its logits: the most probable one, or one that is drawn."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from preftree.engine.generation import Sampling
from preftree.engine.planning.trie import TokenIds

_BELOW_ONE = 1.0 - 2.0**-24


def uniforms(sampling: Sampling, prompt: TokenIds, sample: int) -> np.ndarray:
    """What a sequence draws from, [max_new_tokens] float32 in [0, 1): a function of seed, prompt and sample alone.

    Philox, a counter-based generator (Salmon et al., 2011), under a key of its own for every sequence.
    """
    name = hashlib.blake2b(prompt.astype("<i8").tobytes(), digest_size=16)
    name.update(f"|{sampling.seed}|{sample}".encode())
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(name.digest(), "little")))
    return np.minimum(generator.random(sampling.max_new_tokens), _BELOW_ONE).astype(np.float32)


def next_tokens(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """logits: [rows, vocab] float32. uniform: [rows] float32, ignored where nothing is drawn. Returns [rows] int64.

    Rows are worked on one by one, in an order that does not depend on their neighbours; on a GPU it may depend on the
    number of rows, so callers always give as many as a step block has.
    """
    if sampling.is_greedy:
        return logits.argmax(-1)
    logits = logits / sampling.temperature
    tokens = None
    if sampling.top_k is not None or sampling.top_p is not None:
        kept = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
        logits, tokens = logits.topk(kept, dim=-1)
    probability = logits.softmax(-1)
    # Inverse transform: the first token whose cumulative probability exceeds a uniform number.
    cumulative = probability.cumsum(-1)
    total = cumulative[:, -1:]
    if sampling.top_p is not None:
        # The fewest tokens, in order of probability, that reach top_p: those with less than it before them.
        counts = (cumulative - probability < sampling.top_p).sum(-1, keepdim=True)
        total = cumulative.gather(-1, (counts - 1).clamp_(min=0))
    place = torch.searchsorted(cumulative, uniform.unsqueeze(-1) * total, right=True)
    # A product that is rounded up to the total would choose the token after the last.
    place = torch.minimum(place, torch.searchsorted(cumulative, total.contiguous()))
    # Logits that are no numbers, whose labels will be none, lead anywhere: an index out of range would end the process.
    place = place.clamp_(max=cumulative.shape[-1] - 1)
    return (place if tokens is None else tokens.gather(-1, place)).squeeze(-1)
