"""The host's part of a decode step: the decoder, run over a model that computes nothing."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from preftree.engine.checkpoint import Checkpoint
from preftree.engine.decoding.call import RationaleCall
from preftree.engine.decoding.decoder import Decoder
from preftree.engine.decoding.stopping import StopRule
from preftree.engine.device import Target, choose_target
from preftree.engine.generation import Sampling
from preftree.engine.model.kv import KvStore
from preftree.engine.model.model import Model

_PROMPT_TOKENS = 100
# Enough to choose among, and few, so that choosing costs next to nothing.
_VOCABULARY = 512


class _IdleModel:
    """Stands for a `Model` on a device that takes no time. A step draws one token for all, the next another."""

    def __init__(self, config: Any, target: Target, ids: Sequence[int]) -> None:
        self.config, self.device, self.dtype, self.layout = config, target.device, target.dtype, target.layout
        rows = torch.nn.functional.one_hot(torch.tensor(ids), _VOCABULARY).float()
        self._logits = itertools.cycle([row.repeat(self.layout.step_block, 1) for row in rows])

    def final_hidden(self, plan: Any, cache: Any = None, destination: Any = None) -> torch.Tensor:
        return torch.zeros(len(plan.final_rows), 1)

    def next_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return next(self._logits)[: len(hidden)]

    def step(self, *inputs: Any) -> torch.Tensor:
        return next(self._logits)


def host_seconds(checkpoint: Checkpoint, sequences: int, tokens: int, stop: Sequence[str] = ()) -> float:
    """Processor time of a step with so many sequences, as on a GPU; the median. tokens: steps, nearly."""
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    target = choose_target(config, "cpu", "float32", None)
    target = replace(target, layout=replace(target.layout, step_block=sequences, tiles="paths"))
    control = frozenset(tokenizer.control.values())
    ids = [index for index in range(min(_VOCABULARY, config.vocab_size)) if index not in control]
    store = KvStore([torch.empty(sequences * (_PROMPT_TOKENS + tokens) + 1, 2, 1, 1)])
    sampling = Sampling(max_new_tokens=tokens, stop=stop)
    model = cast(Model, _IdleModel(config, target, ids[-64:]))
    stops = StopRule(control, stop, tokenizer.decode)
    decoder = Decoder(model, target, store, sampling, stops, store.num_slots)
    prompts = np.random.default_rng(0).choice(ids, (sequences, _PROMPT_TOKENS))
    times: list[float] = []
    list(decoder.run([RationaleCall(list(prompts), None, [], 1)], lambda *_: times.append(time.process_time())))
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
