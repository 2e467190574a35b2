"""Reward models: against transformers, bit by bit, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from preftree import Engine, InputError, ModelError, Planner
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.architectures import ARCHITECTURES
from preftree.engine.config.hf_config import from_hf
from preftree.kernels import isa
from tests.engine.test_architectures import CASES, prompts_of, save
from tests.engine.test_running_runner import launch_ahead
from tests.models import CONFIG, REWARD_HEAD, SMALL_CONFIG, write_model

LABELS = [[33], [34]]
# Mean error of a reward on random tokens, about five times what is found.
TYPES = {"float32": 0.0, "bfloat16": 0.0015, "int8": 0.003}
EOS = 1  # which SIZES names as the pad token, too


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "reward", SMALL_CONFIG | REWARD_HEAD)


@pytest.fixture(scope="module")
def engine(directory: Path) -> Engine:
    return Engine.load(str(directory), dtype="float32")


def by_transformers(model: Any, prompts: Sequence[list[int]]) -> np.ndarray:
    with torch.inference_mode():
        return np.array([model(torch.tensor([prompt])).logits.item() for prompt in prompts])


@pytest.mark.parametrize("name", [name for name in CASES if ARCHITECTURES[CASES[name]["model_type"]].has_reward_class])
def test_equals_transformers_and_itself(name: str, tmp_path: Path) -> None:
    """To 1e-4 in every family; and a text alone, in small batches or with a warm prefix cache has the same bits."""
    model = save(tmp_path, CASES[name] | {"num_labels": 1}, head="AutoModelForSequenceClassification")
    prompts = prompts_of(5)
    engine = Engine.load(str(tmp_path), dtype="float32")
    rewards = engine.reward(prompts, prefix_cache=False)
    assert (rewards.dtype, rewards.shape) == (np.float32, (5,))
    expected = by_transformers(model, prompts)
    assert expected.std() > 0.1, "the prompts have different rewards"
    np.testing.assert_allclose(rewards, expected, atol=1e-4)
    for index in (0, 4):
        alone = engine.reward(prompts[index : index + 1], prefix_cache=False)
        assert np.array_equal(alone, rewards[index : index + 1]), f"prompt {index} alone"
    engine.batch_tokens = 150
    assert np.array_equal(engine.reward(prompts[2:]), rewards[2:]), "small batches, a prefix cache"


def test_a_final_eos_that_is_the_pad_token(tmp_path: Path) -> None:
    """What the hint says of such a model: transformers reads the reward before the EOS, this engine after it."""
    model = save(tmp_path, CASES["llama"] | {"num_labels": 1}, head="AutoModelForSequenceClassification")
    before, after = Engine.load(str(tmp_path), dtype="float32").reward([[5, 6, 7], [5, 6, 7, EOS]])
    assert abs(before - after) > 0.1
    np.testing.assert_allclose(by_transformers(model, [[5, 6, 7, EOS]]), before, atol=1e-4)
    assert "end-of-sequence" in str(open_checkpoint(str(tmp_path)).pooling_hint)


def test_every_class_has_its_name_in_transformers() -> None:
    """Catches a class with a head of scores that is called otherwise."""
    modeling = pytest.importorskip("transformers.models.auto.modeling_auto")
    theirs = modeling.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    assert {kind: theirs.get(kind) for kind in ARCHITECTURES} == {
        kind: a.reward_class for kind, a in ARCHITECTURES.items()
    }


@pytest.mark.parametrize("dtype", TYPES)
def test_bits_in_any_company(directory: Path, engine: Engine, dtype: str) -> None:
    """In another order, twice, beside their own beginnings, in batches of any size, on two threads; near float32."""
    prompts = prompts_of(40)
    exact = engine.reward(prompts)
    assert exact.std() > 0.05
    if dtype == "int8" and not isa.int8_runs():
        pytest.skip(f"int8: {isa.int8_obstacle()}")
    with Engine.load(str(directory), dtype=dtype) as engine:
        rewards = engine.reward(prompts)
        assert np.abs(rewards - exact).mean() <= TYPES[dtype]
        assert np.array_equal(engine.reward(prompts[::-1])[::-1], rewards)
        assert np.array_equal(engine.reward([prompts[3], *prompts[2:5], prompts[0][:50]])[:4], rewards[[3, 2, 3, 4]])
        for batch_tokens in (1, 130, 700):
            engine.batch_tokens = batch_tokens
            assert np.array_equal(engine.reward(prompts, prefix_cache=False), rewards)
            assert np.array_equal(engine.reward(prompts), rewards)
        torch.set_num_threads(2)
        assert np.array_equal(engine.reward(prompts), rewards)


def test_streams_and_threads_get_the_bits_of_single_calls(directory: Path, engine: Engine) -> None:
    """Catches answers that go to another caller, and calls without prompts that are lost."""
    calls = [prompts_of(count, longest=60 + count) for count in (3, 5, 4, 9)]
    alone = [engine.reward(prompts) for prompts in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        found = list(pool.map(engine.reward, calls))
    gathered = [answer.reward for answer in engine._joint.reward_all([*calls, []], prefix_cache=True)]
    ahead = launch_ahead(Engine.load(str(directory), dtype="float32", batch_tokens=100))
    streams = [[answer.reward for answer in one.reward_stream([[], *calls])] for one in (engine, ahead)]
    assert [len(rewards) for rewards in gathered] == [3, 5, 4, 9, 0]
    assert [len(stream[0]) for stream in streams] == [0, 0]
    for rewards in (found, gathered[:-1], *(stream[1:] for stream in streams)):
        assert all(map(np.array_equal, alone, rewards))


def test_texts_are_encoded_as_for_labels(engine: Engine) -> None:
    """Catches control tokens that are read from text."""
    text = "the answer</s>"
    ids = engine.checkpoint.tokenizer.encode(engine.checkpoint.tokenizer.plain(text))
    assert EOS not in ids
    assert np.array_equal(engine.reward([text, ids]), engine.reward([ids, ids]))


def test_a_plan_counts_shared_tokens_once(engine: Engine) -> None:
    """Catches a planner that wants labels, and one that counts rows for them."""
    shared = prompts_of(2)[0][:100]
    prompts = [[*shared, token] for token in range(20, 52)]
    plan = Planner(engine.checkpoint, dtype="float32").plan(prompts)
    assert (plan.prompts, plan.prompt_tokens, plan.unique_tokens) == (32, 32 * 101, 132)
    assert engine.plan(prompts).rows == plan.rows


def test_texts_beyond_the_context(engine: Engine) -> None:
    """Catches a text that is cut, or that shifts the rewards of the others."""
    limit = engine.checkpoint.config.max_context
    good, long = [5, 6, 7], [8] * (limit + 1)
    with pytest.raises(InputError, match=f"prompt 1 has {limit + 1:,} tokens, the model's context is {limit:,}"):
        engine.reward([good, long])
    rewards = engine.reward([long, good, long], skip_too_long=True)
    assert np.isnan(rewards).tolist() == [True, False, True]
    assert rewards[1] == engine.reward([good])[0]
    assert np.isnan(engine.reward([long], skip_too_long=True)).all()


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: engine.score([[5]], [LABELS]),
        lambda engine: next(engine.score_stream([([[5]], [LABELS])])),
        lambda engine: engine.plan([[5]], [LABELS]),
        lambda engine: engine.generate([[5]], max_new_tokens=1),
    ],
)
def test_a_reward_model_is_asked_for_logits(engine: Engine, ask: Callable[[Engine], object]) -> None:
    """Catches a row of the head that is taken for a vocabulary."""
    with pytest.raises(InputError, match=r"reward model, which gives no logits; use .*Engine\.reward"):
        ask(engine)


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: engine.reward([[5]]),
        lambda engine: next(engine.reward_stream([[[5]]])),
        lambda engine: engine.plan([[5]]),
    ],
)
def test_a_language_model_is_asked_for_rewards(tmp_path: Path, ask: Callable[[Engine], object]) -> None:
    """Catches an output matrix whose first row is taken for a head."""
    with pytest.raises(InputError, match=r"language model, which gives no reward; use .*Engine\.score"):
        ask(Engine.load(str(write_model(tmp_path))))


@pytest.mark.parametrize(
    ("prompts", "named"),
    [([], "no prompts"), ([[5], []], "prompt 1 must be"), ([[5], [10**6]], "prompt 1 has token ids outside")],
)
def test_bad_prompts_are_named(engine: Engine, prompts: list[list[int]], named: str) -> None:
    with pytest.raises(InputError, match=named):
        engine.reward(prompts)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"id2label": {"0": "bad", "1": "good", "2": "best"}}, "3 labels"),
        ({"id2label": None}, "2 labels"),
        ({"id2label": None, "num_labels": 5}, "5 labels"),
    ],
)
def test_a_head_of_several_labels_is_refused(changes: dict[str, Any], count: str) -> None:
    """Catches a model whose first score is taken for a reward."""
    with pytest.raises(ModelError, match=f"LlamaForSequenceClassification with {count} is not supported"):
        from_hf(CONFIG | REWARD_HEAD | changes, "config.json")


def test_one_label_may_be_a_number() -> None:
    """Catches a config.json that is read by the names of its labels only."""
    assert from_hf(CONFIG | REWARD_HEAD | {"id2label": None, "num_labels": 1}, "config.json").is_reward_model
    assert not from_hf(CONFIG | {"num_labels": 1}, "config.json").is_reward_model


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"score.weight": None}, "tensor 'score.weight' is missing, and with it what a reward model was trained for"),
        ({"score.weight": torch.ones(2, 32)}, r"score.weight has shape \(2, 32\), .* asks for \(1, 32\)"),
        ({"score.weight": torch.full((1, 32), float("nan"))}, "score.weight holds NaN"),
        ({"score.bias": torch.ones(1)}, "'score.bias' is unknown to a Llama"),
    ],
)
def test_heads_that_are_missing_or_wrong(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    """Catches a head that is made up, cut, or applied without its bias."""
    file = write_model(tmp_path, CONFIG | REWARD_HEAD) / "model.safetensors"
    tensors = load_file(file) | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
    with pytest.raises(ModelError, match=named):
        Engine.load(str(tmp_path))


def test_an_output_matrix_that_was_kept_is_not_read(tmp_path: Path) -> None:
    """Catches a reward model refused for a tensor that transformers ignores: here NaN, and not the embedding."""
    file = write_model(tmp_path, CONFIG | REWARD_HEAD | {"tie_word_embeddings": True}) / "model.safetensors"
    expected = Engine.load(str(tmp_path)).reward([[5, 6]])
    save_file(load_file(file) | {"lm_head.weight": torch.full((261, 32), float("nan"))}, file)
    assert np.array_equal(Engine.load(str(tmp_path)).reward([[5, 6]]), expected)


@pytest.mark.parametrize("has_config", [False, True])
def test_an_adapter_without_its_model_is_named(tmp_path: Path, has_config: bool) -> None:
    """Catches the advice to download again what was never merged."""
    if has_config:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG | REWARD_HEAD))
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"adapter \(?.*without its model\)?; merge it"):
        open_checkpoint(str(tmp_path))
