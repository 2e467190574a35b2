"""What the evidence run for GPUs works on: prompts, forests, tensors, batches, calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.flops import unique_trie
from benchmarks.gpu import attention
from benchmarks.gpu.scoring import FIRST_WINDOW, calls_of
from benchmarks.gpu.sizes import FULL, REHEARSAL
from benchmarks.gpu.texts import OPTIONS, prompts_a_pair, workload
from benchmarks.peers.transformers import PaddedPeer, build_transformers
from benchmarks.random_model import RandomSource
from preftree.labeling import pipeline

CPU = torch.device("cpu")


def test_synthetic_prompts_share_as_a_judges_do() -> None:
    """Would catch criteria before the responses, or pairs that change with their number."""
    for name in ("2", "22", "options 270+30"):
        job = workload(name, 3, vocab_size=1000)
        assert len(job.prompts) == 3 * prompts_a_pair(name)
        assert job.first(2).prompts == workload(name, 2, vocab_size=1000).prompts
    one, many = (unique_trie(workload(name, 1, 1000).prompts).num_rows for name in ("2", "22"))
    assert many - one == 2 * (sum((16, 15, 18, 15, 16, 18, 16, 16, 12, 16, 15)) + 10 * 10)
    options = workload("options 120+180", 2, 1000)
    assert {len(prompt.ids) for prompt in options.prompts} == {300}
    assert unique_trie(options.prompts).num_rows == 2 * (120 + OPTIONS * 180)
    lengths = [len(prompt.ids) for prompt in workload("2", 200, 1000).prompts]
    assert 350 < np.mean(lengths) < 550  # those of LLMBar: 437


@pytest.mark.parametrize("path", FULL.paths)
@pytest.mark.parametrize("name", attention.WORKLOADS)
def test_forests_have_paths_of_the_length_asked_for(name: str, path: int) -> None:
    forest = attention.plant(name, path, FULL.rows)
    depths = forest.trie.depth[forest.trie.final_row]
    assert set(depths.tolist()) == {path - 1}
    assert len(depths) == forest.prompts
    assert 0.45 * FULL.rows < forest.trie.num_rows <= 1.1 * FULL.rows


def test_random_tensors_depend_on_the_name_alone() -> None:
    config = REHEARSAL.shapes["Qwen3-0.6B"]
    one, other = (RandomSource(config, CPU, torch.float32) for _ in range(2))
    other.tensor("model.norm.weight", (48,))
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one.tensor(name, (64, 48)), other.tensor(name, (64, 48)))
    assert not torch.equal(one.tensor(name, (64, 48)), one.tensor("model.layers.1.mlp.up_proj.weight", (64, 48)))
    assert one.tensor("model.norm.weight", (48,)).mean() == pytest.approx(1, abs=0.1)


def test_padded_batches_end_at_the_token_limit() -> None:
    """And answer the same: a batch of one prompt is allowed, however long."""
    config = REHEARSAL.shapes["Llama-3-8B"]
    model = build_transformers(config, RandomSource(config, CPU, torch.float32), CPU, torch.float32)
    prompts = workload("2", 4, config.vocab_size, divisor=10).prompts
    whole, cut = PaddedPeer(model, 8).score(prompts), PaddedPeer(model, 8, batch_tokens=90).score(prompts)
    np.testing.assert_allclose(whole, cut, atol=1e-5)
    assert PaddedPeer(model, 8, batch_tokens=90)._batch([10, 20, 30, 40]) == 3
    assert PaddedPeer(model, 8, batch_tokens=5)._batch([10, 20]) == 1


def test_calls_come_as_the_windows_of_a_labelling_run() -> None:
    """Every prompt once, in order, in windows that grow as those of `preftree label` do."""
    job = workload("22", 40, vocab_size=500, divisor=4)
    calls = calls_of(job, budget=8000)
    assert [ids for call in calls for ids in call[0]] == job.ids
    sizes = [len(ids) for ids, _ in calls]
    assert sizes[0] < sizes[1] < sizes[2]
    assert FIRST_WINDOW == pipeline.FIRST_WINDOW
