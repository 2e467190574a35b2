"""Streamed layers: the same bits as resident ones, in little memory, and no layer read after it was given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.engine.device import Target, choose_target
from preftree.engine.model.model import Model
from preftree.engine.scoring.readout import AnyReadout, LabelReadout, RewardReadout
from preftree.engine.scoring.runner import Runner
from preftree.engine.weights.layer_file import LayerFile
from preftree.engine.weights.layers import WeightProvider
from preftree.engine.weights.matrices import memory_of
from preftree.engine.weights.reader import Reader
from preftree.engine.weights.resident import ResidentWeights
from preftree.engine.weights.streamed import StreamedWeights
from tests.engine.test_mixtures import MIXTURES
from tests.models import GPT_OSS_CONFIG, QWEN3_CONFIG, REWARD_HEAD, SMALL_CONFIG, write_model

PROMPTS = [[5 + number % 7, 6, 7, *range(8, 8 + 29 * number)] for number in range(1, 8)]
LABELS = [[[33], [34]]] * len(PROMPTS)
MODELS = {
    "llama": SMALL_CONFIG,
    "qwen3": QWEN3_CONFIG | {"num_hidden_layers": 7},
    "gpt_oss": GPT_OSS_CONFIG,
    "dense, then experts": SMALL_CONFIG | MIXTURES["glm4_moe"],
    "one layer": SMALL_CONFIG | {"num_hidden_layers": 1},
    "two layers": SMALL_CONFIG | {"num_hidden_layers": 2},
    "reward": SMALL_CONFIG | REWARD_HEAD,
}


class HostileFile(LayerFile):
    """Overwrites a layer as soon as it is given back: with NaN, which every sum keeps, or with -1 of int8."""

    def free(self, slot: int) -> None:
        for matrices in self._slots[slot].values():
            for matrix in matrices:
                memory_of(matrix)[:] = b"\xff" * len(memory_of(matrix))


def reader_of(checkpoint: Checkpoint, target: Target) -> Reader:
    return Reader(
        checkpoint.weights,
        checkpoint.config,
        target.device,
        target.dtype,
        target.ops,
        target.layout.is_wide,
        target.quantized,
    )


def weights_of(checkpoint: Checkpoint, target: Target, is_streamed: bool) -> WeightProvider:
    if is_streamed:
        return StreamedWeights(reader_of(checkpoint, target), checkpoint.config, target.ops, HostileFile(0))
    wide, quantized = target.layout.is_wide, target.quantized
    return ResidentWeights(
        checkpoint.weights, checkpoint.config, target.device, target.dtype, target.ops, wide, quantized
    )


def answers(checkpoint: Checkpoint, dtype: str, is_streamed: bool) -> np.ndarray:
    """Of three batches, one after the other."""
    target = choose_target(checkpoint.config, "cpu", dtype, batch_tokens=300)
    runner = Runner(
        checkpoint.config, Model(checkpoint.config, weights_of(checkpoint, target, is_streamed), target), target
    )
    is_reward = checkpoint.config.is_reward_model
    readout: AnyReadout = RewardReadout(len(PROMPTS)) if is_reward else LabelReadout(LABELS)
    (call,) = runner.run([(PROMPTS, readout)], prefix_cache=True)
    assert call.num_batches > 2
    found = call.readout.result(call.cost).reward if is_reward else call.readout.scores(call.cost).logprob
    assert np.isfinite(found).all()
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_streamed_layers_give_the_bits_of_resident_ones(name: str, dtype: str, tmp_path: Path) -> None:
    """Catches a pass that reads a layer that it has given back, and matrices that come back in another layout."""
    checkpoint = open_checkpoint(str(write_model(tmp_path / "model", MODELS[name])))
    resident, streamed = (answers(checkpoint, dtype, is_streamed) for is_streamed in (False, True))
    assert resident.tobytes() == streamed.tobytes()
