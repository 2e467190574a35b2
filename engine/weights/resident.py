"""Weights that stay in memory."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.memory import give_back_freed
from preftree.engine.weights.layers import LayerWeights
from preftree.engine.weights.names import EMBEDDING, FINAL_NORM, HEAD, SCALAR_HEAD
from preftree.engine.weights.reader import Reader
from preftree.engine.weights.safetensors import TensorSource
from preftree.kernels.quantized.types import Quantized


class ResidentWeights:
    """Weights in memory, packed once: all of a model's, or those of one stage.

    A stage has the embedding where its layers are the first, and final norm and head where they are the last.
    """

    embedding: torch.Tensor
    final_norm: torch.Tensor
    head: Any

    def __init__(
        self,
        source: TensorSource,
        config: ModelConfig,
        device: torch.device,
        dtype: torch.dtype,
        ops: ModuleType,
        wide_norms: bool = False,
        quantized: Quantized | None = None,
        layers: range | None = None,
    ) -> None:
        """Read every tensor of `source` onto `device`. ModelError for what is missing, misshapen or not finite.
        InputError for what does not fit into `dtype`.

        Tensors go there one by one in `dtype`, so at its highest the device holds the weights, and one tensor more.
        wide_norms: what norms multiply with stays float32. quantized: what linear layers are quantised to.
        layers: those of a stage; None for all.
        """
        layers = range(config.num_layers) if layers is None else layers
        reader = Reader(source, config, device, dtype, ops, wide_norms, quantized, layers)
        is_last = layers.stop == config.num_layers
        if layers.start == 0:
            self.embedding = self._embedding(reader, config)
        if is_last:
            # Logits are linear in what the last norm gives; no operation after it has to know.
            self.final_norm = reader.norm(FINAL_NORM, config.hidden_size) / config.logits_scaling * config.logit_scale
            self.head = self._head(reader, config, ops)
        self._layers = []
        for index in layers:
            self._layers.append(reader.layer(index))
            give_back_freed()

    @staticmethod
    def _embedding(reader: Reader, config: ModelConfig) -> torch.Tensor:
        return reader.read(EMBEDDING, config.vocab_size, config.hidden_size)

    def _head(self, reader: Reader, config: ModelConfig, ops: ModuleType) -> Any:
        if config.is_reward_model:
            return reader.read(SCALAR_HEAD, 1, config.hidden_size)
        if config.tie_embeddings:
            return ops.pack_head(self.embedding if reader.layers.start == 0 else self._embedding(reader, config))
        return ops.pack_head(reader.read(HEAD, config.vocab_size, config.hidden_size))

    def layers(self) -> Iterator[LayerWeights]:
        return iter(self._layers)
