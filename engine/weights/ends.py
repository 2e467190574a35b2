"""What a model has beside its layers: the embedding before them, the last norm and the head after them."""

from __future__ import annotations

from typing import Any

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.weights.names import EMBEDDING, FINAL_NORM, HEAD, SCALAR_HEAD
from preftree.engine.weights.reader import Reader


class Ends:
    """Embedding, final norm and head, which are in memory however layers are kept.

    Of a stage's reader: the embedding where its layers are the first, final norm and head where they are the last.
    """

    embedding: torch.Tensor
    final_norm: torch.Tensor
    head: Any

    def __init__(self, reader: Reader) -> None:
        config = reader.config
        if reader.layers.start == 0:
            self.embedding = self._embedding(reader, config)
        if reader.layers.stop == config.num_layers:
            # Logits are linear in what the last norm gives; no operation after it has to know.
            self.final_norm = reader.norm(FINAL_NORM, config.hidden_size) / config.logits_scaling * config.logit_scale
            self.head = self._head(reader, config)

    @staticmethod
    def _embedding(reader: Reader, config: ModelConfig) -> torch.Tensor:
        return reader.read(EMBEDDING, config.vocab_size, config.hidden_size)

    def _head(self, reader: Reader, config: ModelConfig) -> Any:
        if config.is_reward_model:
            return reader.read(SCALAR_HEAD, 1, config.hidden_size)
        if config.tie_embeddings:
            return reader.ops.pack_head(self.embedding if reader.layers.start == 0 else self._embedding(reader, config))
        return reader.ops.pack_head(reader.read(HEAD, config.vocab_size, config.hidden_size))
