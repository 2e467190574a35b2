"""The whole engine in fp8: a row's bits are its own, and scores near those of float32, on a CPU and through Triton."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import preftree.engine.device as target_module
from preftree import Engine
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.weights.fp8 import read_fp8
from preftree.engine.weights.quantized.source import QuantizedSource
from preftree.engine.weights.tensors import Matrix, Part
from preftree.kernels import cpu
from preftree.kernels.quantized.fp8 import quantize_rows
from tests.engine.quantized_files import by_compressed_tensors, by_fp8, compressed, group_of, quantise
from tests.engine.test_engine_scores import LABELS, prompts_of
from tests.engine.test_mixtures import MIXTURES
from tests.kernels.fp8 import rounding_interpreter  # noqa: F401
from tests.models import GPT_OSS_CONFIG, QWEN3_CONFIG, SMALL_CONFIG, write_model

# Its second layer is dense.
MIXTURE_CONFIG = SMALL_CONFIG | MIXTURES["qwen2_moe"]
SIZES = {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 64, "num_hidden_layers": 2}
COHERE2_CONFIG = SMALL_CONFIG | {"architectures": ["Cohere2ForCausalLM"], "model_type": "cohere2", "logit_scale": 0.7}


def scores(engine: Engine, prompts: list[list[int]]) -> np.ndarray:
    return engine.score(prompts, [LABELS] * len(prompts), prefix_cache=False).logprob


@pytest.mark.parametrize(
    "config", [SMALL_CONFIG, GPT_OSS_CONFIG, MIXTURE_CONFIG], ids=["llama", "gpt_oss", "qwen2_moe"]
)
def test_the_emulation_on_a_cpu(config: dict[str, object], tmp_path: Path) -> None:
    """Catches products whose bits depend on the batch, and scales that are left out."""
    directory = str(write_model(tmp_path / "model", config | SIZES))
    prompts = [prompt[:200] for prompt in prompts_of(4, seed=1)]
    engine = Engine.load(directory, dtype="fp8")
    found = scores(engine, prompts)
    assert np.array_equal(scores(engine, prompts[::-1])[::-1], found)
    assert np.array_equal(scores(engine, prompts[1:2]), found[1:2])
    assert np.array_equal(engine.score(prompts[:2], [LABELS] * 2).logprob, found[:2]), "after a cached prefix"
    engine.batch_tokens = 64
    assert np.array_equal(scores(engine, prompts), found), "in small batches"
    exact = scores(Engine.load(directory, dtype="float32"), prompts)
    assert 1e-5 < np.abs(found - exact).mean() < 0.05


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which cannot read the CPU's memory")
@pytest.mark.parametrize(
    ("config", "product"),
    [
        (SMALL_CONFIG, "library"),
        (QWEN3_CONFIG, "triton"),
        (MIXTURE_CONFIG, "triton"),
        pytest.param(COHERE2_CONFIG, "library", marks=pytest.mark.soak),
    ],
    ids=["llama, library", "qwen3, triton", "qwen2_moe", "cohere2, library"],
)
@pytest.mark.usefixtures("rounding_interpreter")
def test_the_kernels_of_a_gpu(
    config: dict[str, object], product: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a norm or gate that quantises something else than what the emulation quantises, and views of Q, K, V."""
    pytest.importorskip("triton")
    from preftree.kernels import cuda

    for name, rows in (("NARROW_ROW_BLOCK", 64), ("FINAL_ROW_BLOCK", 16), ("STEP_BLOCK", 4), ("CHUNK_BLOCKS", 2)):
        monkeypatch.setattr(cuda, name, rows)
    monkeypatch.setenv("PREFTREE_FP8_PRODUCT", product)
    directory = str(write_model(tmp_path / "model", config | SIZES))
    prompts = [prompt[:40] for prompt in prompts_of(2, seed=1)]
    monkeypatch.setattr(target_module, "implementation", lambda device, dtype: cuda)
    engine = Engine.load(directory, dtype="fp8")
    found = scores(engine, prompts)
    assert np.array_equal(scores(engine, prompts[1:]), found[1:]), "alone"
    monkeypatch.setattr(target_module, "implementation", lambda device, dtype: cpu)
    # A number in the middle of two steps may become the other one.
    np.testing.assert_allclose(found, scores(Engine.load(directory, dtype="fp8"), prompts), atol=0.01)


CHANNELS = {"num_bits": 8, "type": "float", "strategy": "channel"}
Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("kind", ["channel", "tensor", "blocks"])
def test_a_checkpoint_in_fp8_is_taken_as_it_is(kind: str, tmp_path: Path) -> None:
    """Catches levels that are quantised twice, and scales of other rows. Blocks become rows."""
    directory = write_model(tmp_path / "model", SMALL_CONFIG)
    if kind == "channel":
        stored_as = "float-quantized"
        config, one = compressed(stored_as, group_of(CHANNELS)), by_compressed_tensors(stored_as, CHANNELS)
    else:
        block = (16, 16) if kind == "blocks" else None
        config = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": block and [*block]}
        one = by_fp8(block)
    values = quantise(directory, config, one)[f"{Q}.weight"]
    source = open_checkpoint(str(directory)).weights
    assert isinstance(source, QuantizedSource)
    rows, columns = values.shape
    matrix = Matrix((Part(Q, rows), Part(Q, 8, first=8, of=rows)), columns)
    found = read_fp8(source, matrix, torch.device("cpu"))
    read = found.levels.float() * found.scale.unsqueeze(1)
    expected = torch.cat([values, values[8:16]])
    if kind == "blocks":
        again = quantize_rows(expected)
        expected = again.levels.float() * again.scale.unsqueeze(1)
    torch.testing.assert_close(read, expected, rtol=1e-6, atol=0)


def test_a_stored_nan_is_named(tmp_path: Path) -> None:
    """Catches levels that nobody looks at because they are taken as they are."""
    directory = write_model(tmp_path / "model", SMALL_CONFIG)

    def broken(module: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        parts, values = by_fp8(None)(module, weight)
        parts[".weight"].view(torch.uint8)[3, 3] = 0x7F
        return parts, values

    quantise(directory, {"quant_method": "fp8", "activation_scheme": "dynamic"}, broken)
    with pytest.raises(ModelError, match=r"tensor model.layers.0\S+ holds NaN"):
        Engine.load(str(directory), dtype="fp8")
