"""MXFP4 against scalar arithmetic and transformers' own function, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from preftree import Engine
from preftree.engine.errors import ModelError
from preftree.engine.weights.quantized.mxfp4 import read_mxfp4
from preftree.engine.weights.quantized.scheme import Scheme, Stored
from preftree.engine.weights.quantized.source import QuantizedSource
from preftree.engine.weights.safetensors import SafetensorsSource
from tests.engine.packed_files import E2M1, to_mxfp4
from tests.engine.quantized_files import write_quantization
from tests.engine.test_architectures import LABELS, exact_logprobs, prompts_of, save

NAME = "model.layers.0.mlp.experts.down_proj"


def scheme_of(fields: dict[str, Any]) -> Scheme:
    scheme = read_mxfp4(fields).scheme_of(NAME)
    assert scheme is not None
    return scheme


SCHEME = scheme_of({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]})


def draw(experts: int, rows: int, groups: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(experts + rows + groups)
    blocks = torch.randint(0, 256, (experts, rows, groups, 16), generator=generator).to(torch.uint8)
    scales = torch.randint(100, 150, (experts, rows, groups), generator=generator).to(torch.uint8)
    return {"_blocks": blocks, "_scales": scales}


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.data())
@settings(max_examples=30, deadline=None)
def test_any_experts_are_those_of_scalar_arithmetic(experts: int, rows: int, groups: int, data: st.DataObject) -> None:
    """Catches nibbles, groups or experts that are exchanged, and a matrix that is not transposed."""
    parts, shape = draw(experts, rows, groups), (experts, 32 * groups, rows)
    SCHEME.check({suffix: Stored("U8", tuple(part.shape)) for suffix, part in parts.items()}, shape)
    first = data.draw(st.integers(0, experts - 1))
    last = data.draw(st.integers(first + 1, experts))
    read = SCHEME.dequantized(parts, shape, first, last)
    assert read.shape == (last - first, *shape[1:])
    assert read.dtype == torch.float32
    for expert in range(first, last):
        for row in range(rows):
            for column in range(32 * groups):
                byte = int(parts["_blocks"][expert, row, column // 32, column % 32 // 2])
                code = byte >> 4 if column % 2 else byte & 15
                value = -E2M1[code - 8] if code > 7 else E2M1[code]
                expected = math.ldexp(value, int(parts["_scales"][expert, row, column // 32]) - 127)
                assert read[expert - first, column, row] == expected, (expert, row, column)


def test_values_are_those_of_transformers() -> None:
    """Catches a layout that preftree and these tests agree on, and gpt-oss does not have; the smallest scale, too."""
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    parts = draw(3, 24, 2)
    parts["_scales"][0, 0] = torch.tensor([0, 1])
    parts["_scales"][1, 0] = torch.tensor([252, 251])
    theirs = mxfp4.convert_moe_packed_tensors(parts["_blocks"], parts["_scales"], dtype=torch.float32)
    assert torch.equal(SCHEME.dequantized(parts, (3, 64, 24), 0, 3), theirs)


def write(directory: Path, parts: dict[str, torch.Tensor]) -> QuantizedSource:
    others = {"model.embed_tokens.weight": torch.ones(4, 4)}
    save_file(others | {NAME + suffix: part for suffix, part in parts.items()}, directory / "model.safetensors")
    expected = {"model.embed_tokens.weight": (4, 4), NAME: (3, 64, 24)}
    return QuantizedSource(SafetensorsSource(directory), read_mxfp4({}), expected, str(directory))


def test_a_stack_is_read_by_its_own_name(tmp_path: Path) -> None:
    """Catches suffixes joined to another name than gpt-oss's, and experts that are read in the wrong slices."""
    stack = torch.randn(3, 24, 64, generator=torch.Generator().manual_seed(0))
    source = write(tmp_path, dict(zip(("_blocks", "_scales"), to_mxfp4(stack), strict=True)))
    assert source.names() == {"model.embed_tokens.weight", NAME}
    assert source.dequantized == {"MXFP4": 1}
    read = source.tensor(NAME, (3, 64, 24), dtype=torch.bfloat16)
    source.close()
    assert (read.float().transpose(1, 2) - stack).abs().max() <= stack.abs().max() / 6, "half of the widest step"
    assert read.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("suffix", "change", "complaint"),
    [
        ("_blocks", lambda part: part[:2].contiguous(), r"down_proj: _blocks is U8 of shape \(2, "),
        ("_blocks", lambda part: part.to(torch.int32), "_blocks is I32"),
        ("_scales", lambda part: part[:, :, :1].contiguous(), r"_scales is U8 of shape \(3, 24, 1\)"),
        ("_scales", lambda part: part.view(torch.int8), "_scales is I8"),
        ("_scales", None, "_scales' is missing"),
        ("_scales", lambda part: part.clone().fill_(255), "holds NaN or infinity"),
        ("_scales", lambda part: part.clone().fill_(254), "holds NaN or infinity"),
    ],
)
def test_lying_tensors(tmp_path: Path, suffix: str, change: Any, complaint: str) -> None:
    """Catches scales that are not numbers, or of other blocks, in a model that answers all the same."""
    parts = draw(3, 24, 2)
    part = parts.pop(suffix)
    if change is not None:
        parts[suffix] = change(part)
    with pytest.raises(ModelError, match=complaint):
        write(tmp_path, parts).tensor(NAME, (3, 64, 24))


@pytest.mark.parametrize(
    ("shape", "complaint"), [((3, 48, 24), "48 columns are no multiple of 32"), ((24, 64), "stacked experts only")]
)
def test_shapes_that_no_blocks_make_up(shape: tuple[int, ...], complaint: str) -> None:
    """Catches a last block that is taken for a whole one, and attention's matrices read as experts."""
    with pytest.raises(ModelError, match=complaint):
        SCHEME.check(dict.fromkeys(("_blocks", "_scales"), Stored("U8", (1,))), shape)


def test_scores_are_those_of_transformers(tmp_path: Path) -> None:
    """Catches a directory of gpt-oss that preftree and these tests agree on, and nobody else does."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "intermediate_size": 32, "num_local_experts": 4, "num_experts_per_tok": 2}
    save(tmp_path, {"model_type": "gpt_oss", "head_dim": 16, "sliding_window": 37, **sizes})
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    stacks = [name for name, tensor in tensors.items() if tensor.ndim == 3]
    assert len(stacks) == 2 * 3
    for name in stacks:
        tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = to_mxfp4(tensors.pop(name).transpose(1, 2))
    save_file(tensors, path, {"format": "pt"})
    write_quantization(tmp_path, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    whole = transformers.Mxfp4Config(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path,
        dtype=torch.float64,
        quantization_config=whole,
        attn_implementation="eager",
        experts_implementation="eager",
    ).eval()
    prompts = prompts_of(4)
    scores = Engine.load(str(tmp_path), dtype="float32").score(prompts, [LABELS] * 4).logprob
    np.testing.assert_allclose(scores, [exact_logprobs(model, prompt) for prompt in prompts], atol=1e-4)
