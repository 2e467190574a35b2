"""Weights that stay in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.memory import give_back_freed
from preftree.engine.weights.ends import Ends
from preftree.engine.weights.layers import LayerWeights
from preftree.engine.weights.reader import Reader
from preftree.engine.weights.safetensors import TensorSource
from preftree.kernels.quantized.types import Quantized


class ResidentWeights(Ends):
    """Weights in memory, packed once: all of a model's, or those of one stage."""

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
        reader = Reader(source, config, device, dtype, ops, wide_norms, quantized, layers)
        super().__init__(reader, config, ops)
        self._layers = []
        for index in reader.layers:
            self._layers.append(reader.layer(index))
            give_back_freed()

    def layers(self) -> AbstractContextManager[Iterator[LayerWeights]]:
        return nullcontext(iter(self._layers))

    def done(self, index: int) -> None:
        """The layer stays."""
