"""Quantised checkpoints against the libraries that define their formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from preftree import Engine
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.weights.names import expected_tensors
from preftree.engine.weights.quantized.source import QuantizedSource
from tests.engine.quantized_files import Quantiser, by_compressed_tensors, by_fp8, group_of, quantise
from tests.engine.test_architectures import LABELS, exact_logprobs, prompts_of, save
from tests.engine.test_multimodal import settings_of

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {"model_type": "qwen3", "head_dim": 16, "tie_word_embeddings": False}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"}
CT = {"quant_method": "compressed-tensors", "quantization_status": "compressed", "ignore": ["lm_head"]}
TOKENS = {"num_bits": 8, "dynamic": True, "strategy": "token"}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 16}


Case = tuple[dict[str, Any], Callable[[], Quantiser]]


def compressed(stored_as: str, weights: dict[str, Any], **others: Any) -> Case:
    fields = CT | {"format": stored_as, "config_groups": {"group_0": group_of(weights, **others)}}
    return fields, lambda: by_compressed_tensors(stored_as, weights)


CASES: dict[str, Case] = {
    "fp8 in blocks of 16 x 8": (FP8 | {"weight_block_size": [16, 8]}, lambda: by_fp8((16, 8))),
    "fp8 in blocks that do not fit": (FP8 | {"weight_block_size": [20, 28]}, lambda: by_fp8((20, 28))),
    "fp8 per tensor": (FP8, lambda: by_fp8(None)),
    "fp8 per tensor, named otherwise": (FP8 | {"activation_scheme": "static"}, lambda: by_fp8(None, ".weight_scale")),
    "fp8 per channel of compressed-tensors": compressed(
        "float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, input_activations=TOKENS
    ),
    "fp8 per tensor of compressed-tensors": compressed(
        "float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}
    ),
    "fp8 in blocks of compressed-tensors": compressed(
        "float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [20, 28]}
    ),
    "mxfp8": compressed(
        "mxfp8-quantized",
        {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 16, "scale_dtype": torch.uint8},
    ),
    "int8 per channel": compressed("int-quantized", {"num_bits": 8, "strategy": "channel"}, input_activations=TOKENS),
    "int8 per channel, asymmetric": compressed(
        "int-quantized", {"num_bits": 8, "strategy": "channel", "symmetric": False}
    ),
    "int8 in groups, naive": compressed(
        "naive-quantized", {"num_bits": 8, "strategy": "group", "group_size": 8, "symmetric": False}
    ),
    "W4A16": compressed("pack-quantized", INT4),
    "W4A16, asymmetric": compressed("pack-quantized", INT4 | {"symmetric": False}),
    "W4A16 per channel, asymmetric": compressed(
        "pack-quantized", {"num_bits": 4, "strategy": "channel", "symmetric": False}
    ),
    "W8A16": compressed("pack-quantized", {"num_bits": 8, "strategy": "channel"}),
    "W8A16 in groups, asymmetric": compressed("pack-quantized", INT4 | {"num_bits": 8, "symmetric": False}),
    "W2A16": compressed("pack-quantized", INT4 | {"num_bits": 2}),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "plain"
    save(directory, SETTINGS)
    return directory


def quantised(plain: Path, target: Path, name: str) -> dict[str, torch.Tensor]:
    """A copy of `plain` in `target`, quantised; returns what the library makes of it."""
    shutil.copytree(plain, target)
    fields, maker = CASES[name]
    return quantise(target, json.loads(json.dumps(fields, default=str)), maker())


@pytest.mark.parametrize("name", CASES)
def test_values_are_the_librarys(plain: Path, tmp_path: Path, name: str) -> None:
    """Catches another order of packed numbers, a scale or zero point of another block, and rounding on the way."""
    values = quantised(plain, tmp_path / "quantised", name)
    checkpoint = open_checkpoint(str(tmp_path / "quantised"))
    shapes = expected_tensors(checkpoint.config)
    original = load_file(plain / "model.safetensors")
    for tensor, shape in shapes.items():
        read = checkpoint.weights.tensor(tensor, shape)
        assert torch.equal(read, values.get(tensor, original[tensor])), tensor
        if tensor in values:
            assert 0 < (read - original[tensor]).abs().max() < 0.6, "quantised, and not beyond recognition"
            half = checkpoint.weights.tensor(tensor, shape, dtype=torch.bfloat16)
            assert torch.equal(half, values[tensor].bfloat16()), "rounded once"
    checkpoint.weights.close()


@pytest.mark.parametrize(
    ("stored_as", "weights"),
    [("int-quantized", {"num_bits": 8, "strategy": "channel"}), ("pack-quantized", INT4 | {"symmetric": False})],
)
def test_scales_of_16_bits(plain: Path, tmp_path: Path, stored_as: str, weights: dict[str, Any]) -> None:
    """Catches a product that is rounded twice: the library multiplies in the scales' type, preftree in float32."""
    target = shutil.copytree(plain, tmp_path / "quantised")
    fields, _ = compressed(stored_as, weights)
    values = quantise(target, fields, by_compressed_tensors(stored_as, weights, torch.bfloat16))
    checkpoint = open_checkpoint(str(target))
    for name, value in values.items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(checkpoint.weights.tensor(name, tuple(value.shape), dtype=torch.bfloat16), value), name
    checkpoint.weights.close()


def test_experts_and_a_text_model_beside_vision(tmp_path: Path) -> None:
    """Catches an expert, or a matrix under a prefix, that is looked for by another name."""
    mixture = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    vision = settings_of("qwen3_vl")
    cases: list[tuple[str, dict[str, Any]]] = [("CausalLM", mixture), ("ImageTextToText", vision)]
    for kind, settings in cases:
        directory = tmp_path / settings["model_type"]
        save(directory, settings, f"AutoModelFor{kind}")
        kept = ("embed", "lm_head", "mlp.gate.", "visual")
        values = quantise(directory, FP8 | {"weight_block_size": [16, 16]}, by_fp8((16, 16)), kept)
        checkpoint = open_checkpoint(str(directory))
        for name, value in values.items():
            read = checkpoint.weights.tensor(name.replace("model.language_model", "model"), tuple(value.shape))
            assert torch.equal(read, value), name
        assert isinstance(checkpoint.weights, QuantizedSource)
        assert sum(checkpoint.weights.dequantized.values()) == len(values) > 20
        checkpoint.weights.close()


@pytest.mark.parametrize("name", ["fp8 in blocks of 16 x 8", "int8 per channel, asymmetric", "W4A16, asymmetric"])
def test_scores_are_those_of_the_dequantised_model(plain: Path, tmp_path: Path, name: str) -> None:
    """Catches parts that are exchanged on the way into the packed layers: q for k, or gate for up."""
    from transformers import AutoModelForCausalLM

    values = quantised(plain, tmp_path / "quantised", name)
    dequantised = shutil.copytree(plain, tmp_path / "dequantised")
    save_file(load_file(plain / "model.safetensors") | values, dequantised / "model.safetensors", {"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(dequantised, dtype=torch.float64).eval()
    prompts = prompts_of(4)
    engine = Engine.load(str(tmp_path / "quantised"), dtype="float32")
    scores = engine.score(prompts, [LABELS] * len(prompts)).logprob
    expected = np.array([exact_logprobs(model, prompt) for prompt in prompts])
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_transformers_reads_the_same_of_compressed_tensors(plain: Path, tmp_path: Path) -> None:
    """Catches a directory that preftree and these tests agree on, and nobody else does."""
    from transformers import AutoModelForCausalLM, CompressedTensorsConfig

    quantised(plain, tmp_path / "quantised", "W4A16, asymmetric")
    whole = CompressedTensorsConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "quantised", dtype=torch.float32, quantization_config=whole
    ).eval()
    prompts = prompts_of(4)
    engine = Engine.load(str(tmp_path / "quantised"), dtype="float32")
    scores = engine.score(prompts, [LABELS] * len(prompts)).logprob
    np.testing.assert_allclose(scores, [exact_logprobs(model, prompt) for prompt in prompts], atol=1e-4)
