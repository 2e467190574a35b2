"""Quantised checkpoints: which tensors make up which matrix, and what a broken or hostile one gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from preftree import Engine
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.quantization import METHODS
from preftree.engine.errors import InputError
from preftree.engine.inspection import model_checks, model_facts
from preftree.engine.weights.names import expected_tensors
from preftree.engine.weights.quantized.formats import READERS
from preftree.engine.weights.quantized.packed import Packed
from preftree.engine.weights.safetensors import CPU
from preftree.kernels import isa
from tests.engine.quantized_files import INT4, INT4_CONFIG, compressed, group_of, in_int4, quantise, write_quantization
from tests.engine.refusals import assert_refused
from tests.models import CONFIG, REWARD_HEAD, SMALL_CONFIG, write_model
from tests.stopwatch import within

Q = "model.layers.0.self_attn.q_proj"
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel"}


INT8_CONFIG = compressed("int-quantized", group_of(INT8))


def in_fp8(module: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """One block of 128 x 128 holds all of it."""
    scale = (weight.abs().max() / 448).reshape(1, 1)
    stored = (weight / scale).to(torch.float8_e4m3fn)
    return {".weight": stored, ".weight_scale_inv": scale}, stored.float() * scale


def in_int8(module: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    scale = weight.abs().amax(1, keepdim=True) / 127
    stored = (weight / scale).round().to(torch.int8)
    return {".weight": stored, ".weight_scale": scale}, stored * scale


def read_all(directory: Path) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(str(directory))
    shapes = expected_tensors(checkpoint.config)
    return {name: checkpoint.weights.tensor(name, shape) for name, shape in shapes.items()}


def change(directory: Path, **changes: torch.Tensor | None) -> None:
    """Tensors of the first q_proj by their suffixes; None takes one out."""
    tensors = load_file(directory / "model.safetensors")
    tensors |= {f"{Q}.{suffix}": tensor for suffix, tensor in changes.items() if tensor is not None}
    for suffix in [suffix for suffix, tensor in changes.items() if tensor is None]:
        del tensors[f"{Q}.{suffix}"]
    save_file(tensors, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("suffix", "broken", "named"),
    [
        ("weight_scale_inv", None, "q_proj.weight: .weight_scale_inv is missing"),
        (
            "weight_scale_inv",
            torch.ones(2, 1),
            r"has shape \(2, 1\), but .* \(32, 32\) ask for \(1, 1\)",
        ),
        ("weight_scale_inv", torch.ones(0, 1), r"has shape \(0, 1\)"),
        ("weight_scale_inv", torch.ones(1, 1, dtype=torch.int32), "is stored as I32; preftree reads F32"),
        ("weight_scale_inv", torch.ones(1, 1, dtype=torch.uint8), "is stored as U8"),
        ("weight_scale_inv", torch.full((1, 1), float("nan")), "tensor .*q_proj.weight holds NaN"),
        ("weight_scale_inv", torch.full((1, 1), float("inf")), "tensor .*q_proj.weight holds NaN"),
        ("weight_scale", torch.ones(1, 1), "weight_scale_inv and .weight_scale are both there"),
        ("weight", torch.ones(32, 31, dtype=torch.float8_e4m3fn), r"has shape \(32, 31\), but .* asks for \(32, 32\)"),
        ("weight", torch.ones(32, 32, dtype=torch.int8), "is stored as I8, but fp8 in blocks of 128 x 128 is F8_E4M3"),
        ("weight", torch.ones(32, 32, dtype=torch.float64), "F64"),
        ("weight", torch.ones(32, 32), "weight_scale_inv' is unknown to a Llama model"),
        ("weight", None, "'model.layers.0.self_attn.q_proj.weight' is missing"),
    ],
)
def test_lying_fp8_is_refused(model_dir: Path, suffix: str, broken: torch.Tensor | None, named: str) -> None:
    """Catches a scale that is missing, misshapen or none, and one that is left over."""
    quantise(model_dir, FP8, in_fp8)
    read_all(model_dir)
    change(model_dir, **{suffix: broken})
    assert_refused(read_all, model_dir, named)


@pytest.mark.parametrize(
    ("suffix", "broken", "named"),
    [
        ("weight_packed", torch.zeros(32, 3, dtype=torch.int32), r"I32 of shape \(32, 3\), but 4-bit .* \(32, 4\)"),
        ("weight_packed", torch.zeros(32, 4, dtype=torch.int64), "is I64"),
        ("weight_packed", None, "q_proj.weight_packed' is missing"),
        ("weight_scale", torch.ones(32, 5), r"has shape \(32, 5\)"),
        ("weight_scale", torch.ones(32), r"has shape \(32,\)"),
        ("weight_scale", None, "q_proj.weight_scale' is missing"),
        ("weight_zero_point", None, "q_proj.weight_zero_point' is missing"),
        ("weight_zero_point", torch.zeros(32, 4, dtype=torch.int8), r"weight_zero_point is I8 of shape \(32, 4\)"),
        ("weight_shape", torch.zeros(2, dtype=torch.float64), "weight_shape is stored as F64"),
        ("weight_g_idx", torch.zeros(32, dtype=torch.int32), "weight_g_idx' is unknown"),
    ],
)
def test_lying_packed_numbers_are_refused(
    model_dir: Path, suffix: str, broken: torch.Tensor | None, named: str
) -> None:
    """Catches words, scales or zero points of another matrix, and an order of columns that nothing reads."""
    quantise(model_dir, INT4_CONFIG, in_int4)
    read_all(model_dir)
    change(model_dir, **{suffix: broken})
    assert_refused(read_all, model_dir, named)


@pytest.mark.parametrize(
    ("quantization", "named"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quant_method 'bitsandbytes', .* model.dequantize"),
        ({"load_in_8bit": True}, "'bitsandbytes'"),
        ({"quant_method": ["fp8"]}, "not supported"),
        ({"quant_method": "modelopt"}, "quant_method 'modelopt'"),
        ({"bits": 4}, "names no quant_method"),
        (7, "quantization_config is 7"),
        ({"quant_method": "fp8", "fmt": "e3m4"}, "fmt 'e3m4'"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, "weight_block_size is .128., which is not a list of two"),
        ({"quant_method": "fp8", "weight_block_size": [128, 0]}, "weight_block_size is 0"),
        ({"quant_method": "fp8", "weight_block_size": [1e99, 128]}, "weight_block_size is 1e.99"),
        (INT8_CONFIG | {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse weights are not supported"),
        (INT8_CONFIG | {"transform_config": {"config_groups": {"u": {}}}}, "transforms of activations"),
        (INT8_CONFIG | {"config_groups": {}}, "config_groups is {}"),
        (INT8_CONFIG | {"config_groups": {"a": ["Linear"]}}, "config_groups"),
        (INT8_CONFIG | {"format": "marlin-24"}, "format 'marlin-24' is not supported"),
        (INT8_CONFIG | {"format": ["int-quantized"]}, "is not supported"),
        (compressed("int-quantized", group_of(INT8) | {"weights": 7}), "weights is 7"),
        (compressed("int-quantized", {"weights": INT8}), "targets is None"),
        (compressed("int-quantized", group_of(INT8 | {"strategy": "tensor_group"})), "strategy 'tensor_group'"),
        (
            compressed("int-quantized", group_of(INT8 | {"num_bits": 16})),
            "'int' of 16 bits per channel is not",
        ),
        (compressed("float-quantized", group_of(INT8 | {"type": "float", "symmetric": False})), "with zero points"),
        (compressed("pack-quantized", group_of(INT4 | {"num_bits": 3})), "'int' of 3 bits in groups of 8"),
        (compressed("pack-quantized", group_of(INT4 | {"num_bits": 4.0})), "'int' of 4.0 bits"),
        (compressed("pack-quantized", group_of(INT4 | {"group_size": 0})), "group_size is 0"),
        (compressed("pack-quantized", group_of(INT4 | {"group_size": 10**30})), "group_size is 1000"),
        (compressed("pack-quantized", group_of(INT4 | {"group_size": 12})), "no multiple of the group size 12"),
        (compressed("pack-quantized", group_of(INT4 | {"actorder": "group"})), "actorder 'group'"),
        (
            compressed("int-quantized", group_of(INT8 | {"strategy": "block", "block_structure": "128xmany"})),
            "block_structure is 'many'",
        ),
        (
            compressed("int-quantized", group_of(INT8) | {"targets": ["re:("]}, group_of(INT8)),
            r"target 're:\(' is no pattern",
        ),
    ],
)
def test_absurd_settings_are_refused(model_dir: Path, quantization: Any, named: str) -> None:
    """Catches settings that are guessed around, a traceback, and a way to store numbers that is read as another."""
    quantise(model_dir, {}, in_int4)
    write_quantization(model_dir, quantization)
    assert_refused(read_all, model_dir, named)


def test_a_hostile_pattern_takes_no_time(model_dir: Path) -> None:
    """Catches a backtracking matcher, which would take for ever on this pattern and any name."""
    groups = [group_of(INT8) | {"targets": ["re:(.|.)*(a|aa|.)+(.*)*x$"]}, group_of(INT8)]
    values = quantise(model_dir, compressed("int-quantized", *groups), in_int8)
    with within(2):
        assert torch.equal(read_all(model_dir)[f"{Q}.weight"], values[f"{Q}.weight"])


def test_neutral_settings_and_needless_zero_points_change_nothing(model_dir: Path) -> None:
    """Catches a checkpoint of an early version, or of a late one, that is refused for what it says needlessly."""
    others = {"sparsity_config": {"format": "dense"}, "transform_config": {"config_groups": {}}, "ignore": ["lm_head"]}
    values = quantise(model_dir, INT8_CONFIG | others, in_int8)
    change(model_dir, weight_zero_point=torch.zeros(32, 1, dtype=torch.int8))
    assert torch.equal(read_all(model_dir)[f"{Q}.weight"], values[f"{Q}.weight"])


def test_groups_are_chosen_by_name_then_pattern_then_class(model_dir: Path) -> None:
    """Catches the scheme of another group for a module that two of them fit."""

    def one(module: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        if module == Q or "mlp" not in module:
            return in_int8(module, weight)
        stored = weight.to(torch.float8_e4m3fn)
        return {".weight": stored, ".weight_scale": torch.ones(1)}, stored.float()

    fp8 = {"num_bits": 8, "type": "float", "strategy": "tensor"}
    groups = [
        group_of(fp8, format="float-quantized") | {"targets": [r"re:.*\.mlp\..*_proj$", "re:.*q_proj"]},
        group_of(INT8, format="int-quantized"),
        group_of(INT8, format="int-quantized") | {"targets": [Q, "model.layers.1.self_attn.q_proj"]},
    ]
    values = quantise(model_dir, compressed("mixed-precision", *groups), one)
    read = read_all(model_dir)
    assert all(torch.equal(read[name], value) for name, value in values.items())


def test_scales_of_activations_and_caches_are_left_out(model_dir: Path) -> None:
    """Catches a checkpoint that is refused for scales which only kernels of 8 bits would need."""
    values = quantise(model_dir, FP8 | {"activation_scheme": "static"}, in_fp8)
    change(model_dir, input_scale=torch.ones(()))
    tensors = load_file(model_dir / "model.safetensors") | {"model.layers.0.self_attn.k_scale": torch.ones(1)}
    save_file(tensors, model_dir / "model.safetensors")
    assert torch.equal(read_all(model_dir)[f"{Q}.weight"], values[f"{Q}.weight"])
    assert "k_scale" not in str(open_checkpoint(str(model_dir)).weights.names())


def test_a_reward_model_may_keep_a_quantised_output_matrix(tmp_path: Path) -> None:
    """Catches one that is dropped by the name of its matrix only, so that its scales belong to another model."""
    directory = write_model(tmp_path / "reward", CONFIG | REWARD_HEAD)
    quantise(directory, INT8_CONFIG, in_int8, plain=("embed_tokens", "score"))
    parts, _ = in_int8("lm_head", torch.ones(CONFIG["vocab_size"], 32))
    kept = {f"lm_head{suffix}": part for suffix, part in parts.items()}
    save_file(load_file(directory / "model.safetensors") | kept, directory / "model.safetensors")
    assert "score.weight" in read_all(directory)


def test_values_beyond_float16_are_named(model_dir: Path) -> None:
    """Catches infinities that come from the rounding, not from the file."""
    quantise(model_dir, FP8, in_fp8)
    change(model_dir, weight_scale_inv=torch.full((1, 1), 1e3))
    weights = open_checkpoint(str(model_dir)).weights
    assert weights.tensor(f"{Q}.weight", (32, 32), CPU, torch.bfloat16).isfinite().all()
    with pytest.raises(InputError, match=r"q_proj.weight holds values beyond float16's range"):
        weights.tensor(f"{Q}.weight", (32, 32), CPU, torch.float16)


def test_slices_of_any_length_are_the_whole(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a slice whose scales or zero points are those of the first rows, and one that is too long."""
    generator = torch.Generator().manual_seed(0)

    def one(module: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        parts, _ = in_int4(module, weight)
        for suffix in (".weight_packed", ".weight_zero_point"):
            parts[suffix] = torch.randint(-(2**31), 2**31, parts[suffix].shape, dtype=torch.int32, generator=generator)
        parts[".weight_scale"] = torch.rand(parts[".weight_scale"].shape, generator=generator)
        return parts, weight

    quantise(model_dir, INT4_CONFIG, one)
    whole = read_all(model_dir)
    assert whole[f"{Q}.weight"].std(1).min() > 0.1
    sizes = []

    def dequantized(scheme: Packed, *args: Any) -> torch.Tensor:
        sizes.append(as_before(scheme, *args).numel())
        return as_before(scheme, *args)

    as_before = Packed.dequantized
    monkeypatch.setattr(Packed, "dequantized", dequantized)
    monkeypatch.setattr("preftree.engine.weights.quantized.source.SLICE", 3 * 32)
    sliced = read_all(model_dir)
    assert max(sizes) == 3 * 32
    assert all(torch.equal(whole[name], sliced[name]) for name in whole)


def test_doctor_names_format_and_activations(model_dir: Path) -> None:
    """Catches a quantised model that nobody is told about, and checks that read the stored numbers as weights."""
    quantise(model_dir, FP8, in_fp8)
    checkpoint = open_checkpoint(str(model_dir))
    found = {finding.name: finding.detail for finding in model_facts(checkpoint)}
    matrices = 7 * CONFIG["num_hidden_layers"]
    assert found["dequantised"] == (
        f"{matrices} matrices from fp8 in blocks of 128 x 128, read as float32; activations stay in float32"
    )
    assert f"F8_E4M3 ({matrices})" in found["stored as"]
    assert all(finding.status != "failed" for finding in model_checks(checkpoint))


@pytest.mark.skipif(bool(isa.int8_obstacle()), reason="no int8 on this processor")
def test_a_quantised_model_runs_in_int8_like_any_other(tmp_path: Path) -> None:
    """Catches dequantised matrices that miss the 8-bit products, or go through them in another order."""
    quantised = write_model(tmp_path / "quantised", SMALL_CONFIG)
    plain = write_model(tmp_path / "plain", SMALL_CONFIG)
    values = quantise(quantised, INT8_CONFIG, in_int8)
    save_file(load_file(plain / "model.safetensors") | values, plain / "model.safetensors")
    scores = [
        Engine.load(str(directory), dtype="int8").score([list(range(5, 90))], [[[33], [34, 35]]]).logprob
        for directory in (quantised, plain)
    ]
    assert np.array_equal(scores[0], scores[1])


def test_every_method_has_a_reader() -> None:
    """Catches a method that config.json may name and nothing reads."""
    assert sorted(READERS) == sorted(METHODS)
