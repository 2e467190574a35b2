"""Opens the weights of a model as its target wants them: resident or streamed."""

from __future__ import annotations

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import Target
from preftree.engine.errors import InputError
from preftree.engine.fitting import Placement
from preftree.engine.memory import DeviceMemoryError, host_bytes_free, naming_device
from preftree.engine.weights.layer_file import LayerFile
from preftree.engine.weights.layers import WeightProvider
from preftree.engine.weights.pinned_layers import PinnedLayers
from preftree.engine.weights.reader import Reader
from preftree.engine.weights.resident import ResidentWeights
from preftree.engine.weights.safetensors import TensorSource
from preftree.engine.weights.staged import StagedWeights
from preftree.engine.weights.streamed import LayerStore, StreamedWeights


def open_weights(source: TensorSource, config: ModelConfig, target: Target) -> WeightProvider:
    """Read every tensor of `source` for `target`, each stage's onto its device. Errors as of `Reader`;
    InputError, one line, where they do not fit into the memory of a device, or streamed layers into the host's."""
    stages = []
    for stage in target.stages:
        try:
            with naming_device(stage.device):
                stages.append(_of_stage(source, config, target, stage))
        except DeviceMemoryError:
            raise InputError(f"the weights do not fit into the memory of device '{stage.device}'") from None
    return stages[0] if len(stages) == 1 else StagedWeights(stages)


def _of_stage(source: TensorSource, config: ModelConfig, target: Target, stage: Placement) -> WeightProvider:
    wide, quantized = target.layout.is_wide, target.quantized
    reader = Reader(source, config, stage.device, target.dtype, target.ops, wide, quantized, stage.layers)
    if not target.streams_layers:
        return ResidentWeights(reader)
    size = target.memory.streamed_bytes(config)
    if target.device.type == "cuda":
        _check_host(size, "layers")
        store: LayerStore = PinnedLayers(target.device)
    else:
        _check_host(target.memory.weight_bytes(config), f"embedding, output matrix and {target.memory.slots} layers")
        store = LayerFile(size)
    return StreamedWeights(reader, store)


def _check_host(needed: int, what: str) -> None:
    """InputError where the host has less memory than `needed` bytes free, for `what`."""
    free = host_bytes_free()
    if free < needed:
        raise InputError(
            f"the model neither fits nor streams: its {what} take {needed / 1e9:.1f} GB of the host's memory, which is "
            f"{(needed - free) / 1e9:.1f} GB short of it; free some, or take a smaller model"
        )
