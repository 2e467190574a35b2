"""What only Gemma 4 has: layers with heads of their own, keys and values of other layers, embeddings for each layer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from preftree import Engine, ModelError
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.hf_config import from_hf
from preftree.engine.decoding.budget import KvBudget
from preftree.engine.device import choose_target
from tests.engine.greedy import transformers_choices
from tests.engine.test_architectures import CASES, LABELS, SIZES, exact_logprobs, prompts_of, save

DENSE, SMALL = "gemma4", "gemma4, an embedding for each layer, shared keys and values"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=[DENSE, SMALL], scope="module")
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("models")
    save(directory, CASES[request.param])
    return directory


def test_greedy_text_is_that_of_transformers(directory: Path) -> None:
    """Catches a step that writes over keys and values of another layer, or reads them in another layer's shape."""
    engine, prompts = Engine.load(str(directory), dtype="float32"), prompts_of(6, longest=90)
    continued = engine.generate(prompts, max_new_tokens=45)
    for prompt, (one,) in zip(prompts, continued, strict=True):
        assert one.ids == transformers_choices(directory, prompt, one.ids)[:-1]
    assert sum(len(one.ids) for (one,) in continued) > 100
    assert engine.generate(prompts[2:], max_new_tokens=45) == continued[2:], "with a warm prefix cache"


def test_sixteen_bits_are_as_near_as_transformers(directory: Path) -> None:
    """Catches a number that is rounded once too often: the error is not above that of the class in bfloat16."""
    transformers = pytest.importorskip("transformers")
    prompts = prompts_of(5)
    exact, ours = (
        Engine.load(str(directory), dtype=dtype).score(prompts, [LABELS] * 5).logprob
        for dtype in ("float32", "bfloat16")
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16).eval()
    theirs = np.array([exact_logprobs(model, prompt) for prompt in prompts])
    assert np.abs(ours - exact).mean() <= 1.5 * np.abs(theirs - exact).mean()


def test_bits_on_two_threads(directory: Path) -> None:
    """Catches a layer that reads another's keys and values before they are written, or after they are written over."""
    prompts = prompts_of(40)
    alone = Engine.load(str(directory), dtype="float32").score(prompts, [LABELS] * 40).logprob
    torch.set_num_threads(2)
    together = Engine.load(str(directory), dtype="float32")
    for batch_tokens in (2000, 300):
        together.batch_tokens = batch_tokens
        assert np.array_equal(together.score(prompts, [LABELS] * 40).logprob, alone)
    torch.set_num_threads(1)


def test_memory_is_that_of_the_layers(directory: Path) -> None:
    """Catches a budget that takes all layers to be like the first, and K/V that is kept twice."""
    config = open_checkpoint(str(directory)).config
    target = choose_target(config, "cpu", "float32", None)
    budget = KvBudget.choose(config, target, 100_000)
    store = budget.open_store(config, target)
    own = {kv.data_ptr(): kv.nbytes for kv in store.kv}
    assert sum(own.values()) == (budget.slots + 1) * budget.slot_bytes
    assert len(own) == config.num_layers - config.kv_shared_layers


def test_keys_and_values_that_are_not_used(tmp_path: Path) -> None:
    """Catches a released file that is refused, or read otherwise, for projections that training left in it."""
    save(tmp_path, CASES[SMALL])
    before = Engine.load(str(tmp_path), dtype="float32").score(prompts_of(3), [LABELS] * 3).logprob
    file = tmp_path / "model.safetensors"
    names = ("k_proj", "v_proj", "k_norm")
    left = {f"model.layers.5.self_attn.{name}.weight": torch.full((48, 48), float("nan")) for name in names}
    save_file(load_file(file) | left, file)
    after = Engine.load(str(tmp_path), dtype="float32").score(prompts_of(3), [LABELS] * 3).logprob
    assert np.array_equal(before, after)
    save_file(load_file(file) | {"model.layers.1.self_attn.v_norm.weight": torch.ones(24)}, file)
    with pytest.raises(ModelError, match=r"model.layers.1.self_attn.v_norm.weight' is unknown to a Gemma 4 model"):
        open_checkpoint(str(tmp_path))


def test_the_fields_of_the_authors(tmp_path: Path) -> None:
    """Catches other heads where config.json names them in fields of its own, as the released ones do."""
    model, file = save(tmp_path, CASES[DENSE]), tmp_path / "config.json"
    fields = json.loads(file.read_text())
    assert fields.pop("per_layer_config") == {
        str(layer): {"head_dim": 24, "num_key_value_heads": 1} for layer in (1, 3)
    }
    file.write_text(json.dumps(fields | {"global_head_dim": 24, "num_global_key_value_heads": 1}))
    found = Engine.load(str(tmp_path), dtype="float32").score(prompts_of(2), [LABELS] * 2).logprob
    np.testing.assert_allclose(found, [exact_logprobs(model, prompt) for prompt in prompts_of(2)], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"per_layer_config": 7}, "per_layer_config is 7, which is not an object of objects"),
        ({"per_layer_config": {"1": [24]}}, "per_layer_config is {'1': .24.}, which is not an object of objects"),
        ({"per_layer_config": {"1": {"head_dim": 24}}}, "every layer without window has to have the same"),
        ({"per_layer_config": {str(n): {"head_dim": 24} for n in range(4)}}, "and the others nothing"),
        ({"per_layer_config": {str(n): {"head_dim": 24} for n in (1, 3, 99)}}, "and the others nothing"),
        ({"per_layer_config": {"full_attention": {"head_dim": 24}}}, "per_layer_config .* is not supported"),
        ({"per_layer_config": {str(n): {"hidden_size": 24} for n in (1, 3)}}, "per_layer_config .* is not supported"),
        ({"per_layer_config": {str(n): {"head_dim": "x"} for n in (1, 3)}}, "global head_dim is 'x'"),
        ({"global_head_dim": 10**9}, "global head_dim is 1000000000"),
        ({"global_head_dim": 23}, "global head_dim is 23; rotary embedding needs an even one"),
        ({"num_global_key_value_heads": 3}, "no multiple of global num_kv_heads .3."),
        ({"attention_k_eq_v": "yes"}, "attention_k_eq_v is 'yes', neither true nor false"),
        ({"num_kv_shared_layers": 4}, "num_kv_shared_layers is 4, which is not a number above 0 and at most 3"),
        ({"num_kv_shared_layers": 3}, "num_kv_shared_layers is 3, but no earlier layer is of the kind"),
        ({"num_kv_shared_layers": -1}, "num_kv_shared_layers is -1"),
        ({"use_double_wide_mlp": 2}, "use_double_wide_mlp is 2, neither true nor false"),
        ({"hidden_size_per_layer_input": -4}, "hidden_size_per_layer_input is -4"),
        ({"hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 9}, "there are 261 tokens"),
        ({"enable_moe_block": True, "num_experts": 8}, "enable_moe_block True is not supported|num_experts 8"),
        ({"sliding_window": None, "layer_types": None}, "sliding_window is null"),
    ],
)
def test_refused_in_one_line(changes: dict[str, Any], named: str) -> None:
    """Catches a model that would load and compute something else, or end in a traceback."""
    with pytest.raises(ModelError) as error:
        from_hf(SIZES | CASES[DENSE] | changes, "DIR/config.json")
    assert str(error.value).startswith("DIR/config.json: ")
    assert "\n" not in str(error.value)
    assert re.search(named, str(error.value)), str(error.value)
