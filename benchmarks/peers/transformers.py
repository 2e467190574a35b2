"""The same prompts on transformers, as well as one would write it by hand: padded batches, and a prefix cache.

Both get the engine's token ids and answer with the log-probabilities of the labels. Batches are padded on the right:
attention is causal, so no prompt sees its padding, and with no mask to read transformers runs its fastest kernel.
The output matrix multiplies only the last real position of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.hugging_face import to_hf
from benchmarks.workloads import JudgePrompt, Workload
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import InputError, PreftreeError
from preftree.engine.weights.names import expected_tensors
from preftree.engine.weights.safetensors import TensorSource

PEERS = ("padded", "prefix")
TOLERANCE_NATS = 1e-3
# Prompts of one length gain from company; where lengths differ, padding costs more than a batch of 1 loses.
BATCH_SIZES = (1, 2, 8, 16)


class DisagreementError(PreftreeError):
    """A peer's log-probabilities are not the engine's: one of them computes something else."""


class Peer(Protocol):
    """Something that scores prompts as the engine does."""

    @property
    def setting(self) -> str:
        """How this one is set up, for people to read."""

    def score(self, prompts: Sequence[JudgePrompt]) -> np.ndarray:
        """Log-probabilities of every prompt's labels, [prompts, labels] float32, in nats."""


def load_transformers(directory: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model in `directory` as transformers runs it on a CPU, with PyTorch's own attention kernel."""
    model = _transformers().AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="sdpa")
    return model.eval()


@torch.no_grad()
def build_transformers(config: ModelConfig, weights: TensorSource, device: torch.device, dtype: torch.dtype) -> Any:
    """A model on `device` with the tensors of `weights`, as `load_transformers` has one with those of a directory."""
    library, settings = _transformers(), to_hf(config)
    hf_config = library.AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.device(device):
        model = library.AutoModelForCausalLM.from_config(hf_config, dtype=dtype, attn_implementation="sdpa")
    parameters = dict(model.named_parameters())
    if parameters.keys() != expected_tensors(config).keys():
        raise PreftreeError(f"transformers names other tensors: {sorted(parameters.keys() ^ weights.names())[:4]}")
    for name, parameter in parameters.items():
        parameter.copy_(weights.tensor(name, tuple(parameter.shape), device))
    return model.eval()


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError("the peers need transformers: pip install 'preftree[dev]', or use --peers none") from None
    transformers.utils.logging.disable_progress_bar()
    return transformers


def candidates(
    name: str,
    model: Any,
    workload: Workload,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    batch_tokens: int | None = None,
) -> list[Peer]:
    """The settings of peer `name` that are worth trying; the fastest is the one to compare with.

    batch_sizes, batch_tokens: of padded batches, see `PaddedPeer`.
    """
    if name == "padded":
        return [PaddedPeer(model, size, batch_tokens) for size in batch_sizes]
    orders = {(prompt.pair, prompt.order) for prompt in workload.prompts}
    # Where an order has one prompt only, there is nothing to share within it.
    pays = [levels for levels in PREFIX_LEVELS if _ORDER not in levels or len(orders) < len(workload.prompts)]
    return [PrefixPeer(model, levels) for levels in pays]


def differences(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """The largest difference of each prompt's log-probabilities in nats, [prompts] float64."""
    return np.abs(theirs.astype(np.float64) - ours.astype(np.float64)).max(axis=1)


def check_agreement(name: str, theirs: np.ndarray, ours: np.ndarray) -> float:
    """The largest difference in nats. DisagreementError beyond TOLERANCE_NATS, or where something is not finite."""
    difference = differences(theirs, ours)
    worst = int(np.argmax(np.where(np.isfinite(difference), difference, np.inf)))
    if not difference[worst] <= TOLERANCE_NATS:
        raise DisagreementError(f"peer {name} and the engine differ by {difference[worst]:.2g} nats at prompt {worst}")
    return float(difference[worst])


@dataclass(frozen=True)
class PaddedPeer:
    """Prompts sorted by length, in batches of `batch_size`, each prompt computed from its first token on.

    batch_tokens: a batch ends earlier when it would have more tokens than that, padding included.
    """

    model: Any
    batch_size: int
    batch_tokens: int | None = None

    @property
    def setting(self) -> str:
        return f"batches of {self.batch_size}"

    @torch.inference_mode()
    def score(self, prompts: Sequence[JudgePrompt]) -> np.ndarray:
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index].ids))
        result = np.empty((len(prompts), _num_labels(prompts)), dtype=np.float32)
        first = 0
        while first < len(order):
            batch = self._batch([len(prompts[index].ids) for index in order[first : first + self.batch_size]])
            members = order[first : first + batch]
            result[members] = _score_batch(self.model, [prompts[index] for index in members], None, 0)
            first += batch
        return result

    def _batch(self, lengths: Sequence[int]) -> int:
        """Prompts of the next batch, whose ascending lengths are the first of `lengths`."""
        if self.batch_tokens is None:
            return len(lengths)
        fit = sum((place + 1) * length <= self.batch_tokens for place, length in enumerate(lengths))
        return max(1, fit)


@dataclass(frozen=True)
class Level:
    """Prompts with the same key share a cached prefix."""

    name: str
    key: Callable[[JudgePrompt], object]


_RUN = Level("run", lambda prompt: 0)
_PAIR = Level("pair", lambda prompt: prompt.pair)
_ORDER = Level("order", lambda prompt: (prompt.pair, prompt.order))
PREFIX_LEVELS = ((_PAIR,), (_ORDER,), (_RUN, _PAIR), (_RUN, _ORDER), (_RUN, _PAIR, _ORDER))


@dataclass(frozen=True)
class PrefixPeer:
    """A nested prefix cache: at each level the longest common prefix of a group runs once, then its prompts' suffixes
    as one batch over copies of the cache."""

    model: Any
    levels: tuple[Level, ...]

    @property
    def setting(self) -> str:
        return "prefix of each " + ", then ".join(level.name for level in self.levels)

    @torch.inference_mode()
    def score(self, prompts: Sequence[JudgePrompt]) -> np.ndarray:
        result = np.empty((len(prompts), _num_labels(prompts)), dtype=np.float32)
        self._descend(prompts, list(range(len(prompts))), self.levels, None, 0, result)
        return result

    def _descend(
        self,
        prompts: Sequence[JudgePrompt],
        members: Sequence[int],
        levels: Sequence[Level],
        cache: Any,
        cached: int,
        result: np.ndarray,
    ) -> None:
        """Score `members`, whose first `cached` tokens the batch-1 `cache` holds."""
        if not levels:
            mine = [prompts[index] for index in members]
            result[members] = _score_batch(self.model, mine, _copies(cache, len(mine)), cached)
            return
        level, *below = levels
        for _, group in groupby(members, key=lambda index: level.key(prompts[index])):
            inner = list(group)
            shared = _common_length([prompts[index].ids for index in inner])
            grown = self._extend(cache, prompts[inner[0]].ids[cached:shared])
            self._descend(prompts, inner, below, grown, shared, result)

    def _extend(self, cache: Any, tokens: Sequence[int]) -> Any:
        """`cache` with the K/V of `tokens` after it; the old one stays as it is."""
        grown = _copies(cache, 1)
        if tokens:
            self.model.model(torch.tensor([tokens], device=self.model.device), past_key_values=grown, use_cache=True)
        return grown


def _score_batch(model: Any, prompts: Sequence[JudgePrompt], cache: Any, cached: int) -> np.ndarray:
    """Labels of `prompts` [prompts, labels], after their first `cached` tokens, which `cache` holds for each."""
    suffixes = [prompt.ids[cached:] for prompt in prompts]
    longest = max(map(len, suffixes))
    ids = torch.tensor([[*suffix, *[0] * (longest - len(suffix))] for suffix in suffixes], device=model.device)
    last = torch.tensor([len(suffix) - 1 for suffix in suffixes], device=model.device)
    labels = torch.tensor([[token for (token,) in prompt.labels] for prompt in prompts], device=model.device)
    hidden = model.model(ids, past_key_values=cache, use_cache=cache is not None).last_hidden_state
    logits = model.lm_head(hidden[torch.arange(len(suffixes), device=model.device), last])
    result: np.ndarray = logits.float().log_softmax(-1).gather(1, labels).cpu().numpy()
    return result


def _copies(cache: Any, count: int) -> Any:
    """A new cache that holds `cache` `count` times over (None: an empty one). Layers grow by concatenation, which
    leaves the old tensors alone, so nothing needs to be copied here."""
    from transformers import DynamicCache

    if cache is None:
        return DynamicCache()
    return DynamicCache(
        [(layer.keys.expand(count, -1, -1, -1), layer.values.expand(count, -1, -1, -1)) for layer in cache.layers]
    )


def _common_length(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that all of them begin with, at most all but one of the shortest: its last one must be run for itself."""
    first, last = min(map(list, sequences)), max(map(list, sequences))
    limit = min(len(ids) for ids in sequences) - 1
    return next((index for index in range(limit) if first[index] != last[index]), limit)


def _num_labels(prompts: Sequence[JudgePrompt]) -> int:
    shapes = {tuple(map(len, prompt.labels)) for prompt in prompts}
    if any(len(shape) != len(prompts[0].labels) or set(shape) != {1} for shape in shapes):
        raise InputError("the peers score single-token labels, equally many a prompt; use --peers none")
    return len(prompts[0].labels)
