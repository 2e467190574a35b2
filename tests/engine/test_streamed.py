"""Streamed layers: the same bits as resident ones, in little memory, and no layer read after it was given back."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from preftree import Engine
from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.engine.device import Target, choose_target
from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.engine.model.model import Model
from preftree.engine.scoring.readout import LabelReadout, RewardReadout
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
    reader = reader_of(checkpoint, target)
    return StreamedWeights(reader, HostileFile(0)) if is_streamed else ResidentWeights(reader)


def answers(checkpoint: Checkpoint, dtype: str, is_streamed: bool) -> np.ndarray:
    """Of three batches, one after the other."""
    target = choose_target(checkpoint.config, "cpu", dtype, batch_tokens=300)
    runner = Runner(
        checkpoint.config, Model(checkpoint.config, weights_of(checkpoint, target, is_streamed), target), target
    )
    if checkpoint.config.is_reward_model:
        (rewarded,) = runner.run([(PROMPTS, RewardReadout(len(PROMPTS)))], prefix_cache=True)
        assert rewarded.num_batches > 2
        found = rewarded.readout.result(rewarded.cost).reward
    else:
        (scored,) = runner.run([(PROMPTS, LabelReadout(LABELS))], prefix_cache=True)
        assert scored.num_batches > 2
        found = scored.readout.scores(scored.cost).logprob
    assert np.isfinite(found).all()
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_streamed_layers_give_the_bits_of_resident_ones(name: str, dtype: str, tmp_path: Path) -> None:
    """Catches a pass that reads a layer that it has given back, and matrices that come back in another layout."""
    checkpoint = open_checkpoint(str(write_model(tmp_path / "model", MODELS[name])))
    resident, streamed = (answers(checkpoint, dtype, is_streamed) for is_streamed in (False, True))
    assert resident.tobytes() == streamed.tobytes()


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(write_model(tmp_path / "model", MODELS["qwen3"]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_generation_is_the_same(model: str, dtype: str) -> None:
    """Catches decode steps that do not give layers back, or a pass over prompts that begins in their middle."""
    found = []
    for how in ("never", "always"):
        with Engine.load(model, device="cpu", dtype=dtype, stream_layers=how) as engine:
            assert engine.target.streams_layers == (how == "always")
            scores = engine.generate_and_score(PROMPTS, [[7]] * len(PROMPTS), LABELS, Sampling(max_new_tokens=4))
            found.append((engine.generate(PROMPTS, 5), scores.scores.logprob.tobytes()))
    assert found[0] == found[1]


def test_a_pass_that_was_given_up(model: str) -> None:
    """Catches one that leaves the next pass waiting for ever, or with the layers that it had asked for."""
    checkpoint = open_checkpoint(model)
    target = choose_target(checkpoint.config, "cpu", "float32", None)
    weights, resident = (weights_of(checkpoint, target, is_streamed) for is_streamed in (True, False))
    for count in (0, 1, 2, 3):
        with weights.layers() as layers:
            for _ in range(min(count, 2)):
                next(layers)
            if count == 3:
                weights.done(0)
                next(layers)
    with weights.layers() as layers, resident.layers() as expected:
        for index, (layer, wanted) in enumerate(zip(layers, expected, strict=True)):
            assert memory_of(layer.o.weight) == memory_of(wanted.o.weight)
            weights.done(index)


def test_a_layer_that_is_not_given_back(model: str) -> None:
    """Catches a forward pass without end: one that asks for more layers than there are slots fails instead."""
    checkpoint = open_checkpoint(model)
    target = choose_target(checkpoint.config, "cpu", "float32", None)
    weights = weights_of(checkpoint, target, is_streamed=True)
    with weights.layers() as layers, pytest.raises(AssertionError, match=r"layer 3 .* while \[0, 1, 2\]"):
        list(layers)


def test_no_room(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each: on the disk, in the host's memory."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"streamed layers take .* on disk, and .* set TMPDIR"):
        Engine.load(model, device="cpu", stream_layers="always")
    monkeypatch.setattr("preftree.engine.opening.host_bytes_free", lambda: 1000)
    with pytest.raises(InputError, match=r"neither fits nor streams: .* GB short"):
        Engine.load(model, device="cpu", stream_layers="always")
