"""The whole engine in fp8: a row's bits are its own, and scores near those of float32, on a CPU and through Triton."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import preftree.engine.device as target_module
from preftree import Engine
from preftree.kernels import cpu
from tests.engine.test_engine_scores import LABELS, prompts_of
from tests.kernels.fp8 import rounding_interpreter  # noqa: F401
from tests.models import QWEN3_CONFIG, SMALL_CONFIG, write_model

SIZES = {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 64, "num_hidden_layers": 2}
COHERE2_CONFIG = SMALL_CONFIG | {"architectures": ["Cohere2ForCausalLM"], "model_type": "cohere2", "logit_scale": 0.7}


def scores(engine: Engine, prompts: list[list[int]]) -> np.ndarray:
    return engine.score(prompts, [LABELS] * len(prompts), prefix_cache=False).logprob


@pytest.mark.parametrize("config", [SMALL_CONFIG, QWEN3_CONFIG], ids=["llama", "qwen3"])
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
        pytest.param(COHERE2_CONFIG, "library", marks=pytest.mark.soak),
    ],
    ids=["llama, library", "qwen3, triton", "cohere2, library"],
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
