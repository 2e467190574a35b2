"""Model FLOPs: the arithmetic that the answers need, whoever computes them. Padding and recomputation do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.workloads import JudgePrompt
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.planning.trie import TokenTrie
from preftree.engine.weights.names import layer_tensors
from preftree.engine.weights.tensors import Matrix


@dataclass(frozen=True)
class ModelFlops:
    """Floating point operations (a multiply and an add are two) of linear layers, attention and label head."""

    linear: int
    attention: int
    head: int

    @property
    def total(self) -> int:
        return self.linear + self.attention + self.head


def unique_trie(prompts: Sequence[JudgePrompt]) -> TokenTrie:
    """Every unique token of `prompts` once, and of what their labels force before the last token of a label."""
    forced = {(index, tuple(label[:-1])) for index, prompt in enumerate(prompts) for label in prompt.labels}
    return TokenTrie.build(
        [np.array([*prompts[index].ids, *tokens], dtype=np.int64) for index, tokens in sorted(forced)]
    )


def model_flops(config: ModelConfig, trie: TokenTrie) -> ModelFlops:
    """FLOPs to score `trie`: each row once through every layer, but in the last layer only K and V of most rows.

    A row at depth d attends to d + 1 keys, or as many as its layer's window holds, with 2 operations for the score and
    2 for the value per head dimension. Of a mixture, the chosen experts, the shared one and the router count.
    The last layer's queries, output projection, MLP and attention are those of final rows only, and so is the head,
    which is counted over the whole vocabulary, since exact log-probabilities need its normaliser.
    """
    finals = np.unique(trie.final_row)
    linear = keys = 0
    for layer in range(config.num_layers):
        rows = finals if layer == config.num_layers - 1 else np.arange(trie.num_rows)
        tensors = layer_tensors(config, layer)
        kv = _multiplications(tensors.kv, tensors.kv_latent)
        rest = _multiplications(tensors.q, tensors.q_latent, tensors.o)
        rest += config.hidden_size * _mlp_columns(config, layer)
        linear += 2 * (trie.num_rows * kv + len(rows) * rest)
        visible = np.minimum(trie.depth[rows] + 1, config.window_of(layer) or config.max_context)
        keys += int(visible.sum())
    return ModelFlops(
        linear=linear,
        attention=2 * config.num_heads * _key_and_value(config) * keys,
        head=2 * config.hidden_size * config.vocab_size * len(finals),
    )


def _multiplications(*matrices: Matrix | None) -> int:
    """Of a row by these matrices."""
    return sum(part.rows * matrix.columns for matrix in filter(None, matrices) for part in matrix.parts)


def _key_and_value(config: ModelConfig) -> int:
    """Dimensions of a head's key and value together, without padding."""
    return 2 * config.head_dim if config.latent is None else config.latent.key_size + config.latent.value


def _mlp_columns(config: ModelConfig, layer: int) -> int:
    """Multiplications of a row in the MLP of a layer, by the hidden size."""
    experts = config.experts
    if experts is None or layer not in experts.layers:
        return 3 * config.intermediate_size
    return 3 * (experts.per_token * experts.width + experts.shared_width) + experts.count
