"""Weights onto the devices of a target."""

from __future__ import annotations

from functools import partial

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import Target
from preftree.engine.errors import InputError
from preftree.engine.memory import DeviceMemoryError, naming_device
from preftree.engine.weights.layers import WeightProvider
from preftree.engine.weights.resident import ResidentWeights
from preftree.engine.weights.safetensors import TensorSource
from preftree.engine.weights.staged import StagedWeights


def load_weights(source: TensorSource, config: ModelConfig, target: Target) -> WeightProvider:
    """Read the weights of every stage onto its device. Errors as of `ResidentWeights`, and InputError for a device
    whose memory they do not fit into."""
    read = partial(
        ResidentWeights,
        source,
        config,
        dtype=target.dtype,
        ops=target.ops,
        wide_norms=target.layout.is_wide,
        quantized=target.quantized,
    )
    stages = []
    for stage in target.stages:
        try:
            with naming_device(stage.device):
                stages.append(read(device=stage.device, layers=stage.layers))
        except DeviceMemoryError:
            raise InputError(f"the weights do not fit into the memory of device '{stage.device}'") from None
    return stages[0] if len(stages) == 1 else StagedWeights(stages)
