"""The text model of directories with a vision model beside it: against the class of the whole in transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from preftree import Engine, ModelError
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.multimodal import MULTIMODAL
from preftree.engine.inspection import model_facts
from tests.engine.test_architectures import GEMMA4, LABELS, SIZES, WINDOW, YARN, exact_logprobs, prompts_of, save
from tests.engine.test_rewards import by_transformers

TEXT = SIZES | {"hidden_size": 64}
VISION: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16}
PIXELS = VISION | {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
PATCH_HEADS = VISION | {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
PATCHES = VISION | {"depth": 1, "num_heads": 2, "out_hidden_size": 64}
REWARDS = "Gemma3ForSequenceClassification"
SECTIONS = {"mrope_section": [2, 3, 3], "rope_theta": 1e4}
QWEN3 = {"model_type": "qwen3_vl", "vision_config": PATCHES | {"deepstack_visual_indexes": [0]}}
CASES: dict[str, dict[str, Any]] = {
    "gemma3": {
        "model_type": "gemma3",
        "text_config": {"head_dim": 16, "sliding_window": WINDOW, "sliding_window_pattern": 2},
        "vision_config": PIXELS,
    },
    "gemma3, untied": {
        "model_type": "gemma3",
        "text_config": {"head_dim": 16, "sliding_window": WINDOW},
        "vision_config": PIXELS,
        "tie_word_embeddings": False,
    },
    "gemma4": {
        "model_type": "gemma4",
        "text_config": {
            **GEMMA4,
            "global_head_dim": 24,
            "num_global_key_value_heads": 1,
            "attention_k_eq_v": True,
            "use_bidirectional_attention": "vision",
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        "vision_config": PATCH_HEADS,
    },
    "gemma4 with sound": {
        "model_type": "gemma4",
        "text_config": {
            **GEMMA4,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": SIZES["vocab_size"],
            "num_kv_shared_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
        "vision_config": PATCH_HEADS,
        "audio_config": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "output_proj_dims": 16,
            "subsampling_conv_channels": [4, 2],
        },
    },
    "mistral3": {
        "model_type": "mistral3",
        "text_config": {"model_type": "mistral", "head_dim": 16, "sliding_window": WINDOW},
        "vision_config": PIXELS | {"head_dim": 8},
        "tie_word_embeddings": False,
    },
    "mistral3 over ministral3": {
        "model_type": "mistral3",
        "text_config": {
            "model_type": "ministral3",
            "head_dim": 16,
            "rope_parameters": YARN | {"llama_4_scaling_beta": 0.5},
        },
        "vision_config": PIXELS | {"head_dim": 8},
        "tie_word_embeddings": True,
    },
    "qwen2_5_vl": {
        "model_type": "qwen2_5_vl",
        "text_config": {"rope_parameters": SECTIONS | {"rope_type": "default"}},
        "vision_config": PATCHES,
    },
    "qwen2_5_vl, yarn and windows": {
        "model_type": "qwen2_5_vl",
        "text_config": {
            "rope_parameters": SECTIONS | YARN,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
        },
        "vision_config": PATCHES,
    },
    "qwen3_vl": {
        **QWEN3,
        "text_config": {
            "head_dim": 16,
            "rope_parameters": SECTIONS | {"rope_type": "default", "mrope_interleaved": True},
        },
        "tie_word_embeddings": True,
    },
}


pytestmark = pytest.mark.usefixtures("one_thread")


def settings_of(name: str) -> dict[str, Any]:
    case = CASES[name]
    return case | {"text_config": TEXT | case["text_config"]}


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str, tmp_path: Path) -> None:
    """Catches a text configuration, a prefix, a tied head or sections of a rotary embedding that are read wrongly."""
    model = save(tmp_path, settings_of(name), head="AutoModelForImageTextToText")
    prompts = prompts_of(5)
    engine = Engine.load(str(tmp_path), dtype="float32")
    scores = engine.score(prompts, [LABELS] * len(prompts)).logprob
    expected = np.array([exact_logprobs(model, prompt) for prompt in prompts])
    assert expected.std(0).min() > 0.1, "the prompts have different answers"
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save(directory, settings_of("qwen2_5_vl"), head="AutoModelForImageTextToText")
    return directory


def test_rewards_equal_transformers(tmp_path: Path) -> None:
    """Catches a head of scores that is lost beside a vision model, and a count of labels that is the text model's."""
    model = save(tmp_path, settings_of("gemma3") | {"num_labels": 1}, head="AutoModelForSequenceClassification")
    assert type(model).__name__ == MULTIMODAL["gemma3"].reward_class
    engine, prompts = Engine.load(str(tmp_path), dtype="float32"), prompts_of(5)
    expected = by_transformers(model, prompts)
    assert expected.std() > 0.1, "the prompts have different rewards"
    np.testing.assert_allclose(engine.reward(prompts), expected, atol=1e-4)
    assert engine.checkpoint.skipped


@pytest.mark.parametrize("kind", MULTIMODAL)
def test_every_class_of_rewards_has_its_name_in_transformers(kind: str) -> None:
    """Catches a class with a head of scores that transformers has and nobody knows of, or that it lacks."""
    modeling = pytest.importorskip("transformers.models.auto.modeling_auto")
    theirs = modeling.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    assert MULTIMODAL[kind].reward_class == theirs.get(kind)


def rewritten(directory: Path, target: Path, rename: Callable[[str], str], **changes: Any) -> Path:
    """A copy with other names of tensors and other fields of config.json; `...` leaves a field out."""
    for path in directory.glob("tokenizer*"):
        (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(directory / "model.safetensors")
    save_file({rename(name): tensor for name, tensor in tensors.items()}, target / "model.safetensors")
    fields = json.loads((directory / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps({name: value for name, value in fields.items() if value is not ...}))
    return target


def test_a_directory_of_another_age(qwen: Path, tmp_path: Path) -> None:
    """Catches tensors under transformers' own names, or fields beside the vision's, that give other numbers."""
    fields = json.loads((qwen / "config.json").read_text())
    text = {name: value for name, value in fields["text_config"].items() if name not in ("model_type", "layer_types")}
    text["rope_scaling"] = {"type": "mrope", "mrope_section": text.pop("rope_parameters")["mrope_section"]}
    text["rope_theta"] = SECTIONS["rope_theta"]
    renamed = rewritten(
        qwen,
        tmp_path,
        lambda name: re.sub("^visual[.]", "model.visual.", re.sub("^model[.]", "model.language_model.", name)),
        **text,
        text_config=...,
    )
    engines = [Engine.load(str(path), dtype="float32") for path in (qwen, renamed)]
    one, other = (engine.score(prompts_of(4), [LABELS] * 4).logprob for engine in engines)
    assert np.array_equal(one, other)


def test_doctor_names_what_is_skipped(qwen: Path) -> None:
    """Catches tensors that are left out in silence, and ones of the text model among them."""
    checkpoint = open_checkpoint(str(qwen))
    stored = load_file(qwen / "model.safetensors")
    assert set(checkpoint.skipped) == {name for name in stored if name.startswith("visual.")}
    (line,) = [finding.detail for finding in model_facts(checkpoint) if finding.name == "skipped"]
    assert line.startswith(f"{len(checkpoint.skipped)} tensors of the vision model: visual (")


def test_a_tensor_under_two_prefixes(qwen: Path, tmp_path: Path) -> None:
    """Catches one of two versions of a tensor that is taken by chance."""
    target = rewritten(qwen, tmp_path, str)
    tensors = load_file(target / "model.safetensors")
    tensors["model.language_model.norm.weight"] = tensors["model.norm.weight"] * 2
    save_file(tensors, target / "model.safetensors")
    with pytest.raises(ModelError, match=r"norm[.]weight' is there twice, under two prefixes"):
        open_checkpoint(str(target))


@pytest.mark.parametrize("kind", MULTIMODAL)
def test_defaults_are_those_of_the_class(kind: str) -> None:
    """Catches another default than transformers' for a field that `text_config` leaves out."""
    transformers = pytest.importorskip("transformers")
    text_kind, text_model = next(iter(MULTIMODAL[kind].texts.items()))
    sizes = {"vocab_size": 300, "hidden_size": 384, "intermediate_size": 64, "num_hidden_layers": 3}
    sizes["num_attention_heads"] = 32
    text = {name: value for name, value in sizes.items() if name not in text_model.defaults}
    given = {"model_type": kind, "text_config": text | {"model_type": text_kind}}
    theirs = transformers.AutoConfig.for_model(**given)
    tied = theirs.tie_word_embeddings
    assert from_hf(given | {"tie_word_embeddings": tied}, "ours") == from_hf(theirs.to_dict(), "theirs")


def hostile(kind: str, **text: Any) -> dict[str, Any]:
    own = TEXT | {"model_type": next(iter(MULTIMODAL[kind].texts))} | text
    return {"model_type": kind, "text_config": own}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (hostile("gemma3") | {"text_config": None}, "text_config is missing"),
        (hostile("mistral3") | {"text_config": [1]}, r"text_config is \[1\], which is not an object"),
        (hostile("gemma3", text_config=TEXT), "text_config holds another text_config"),
        (hostile("qwen3_vl", vision_config={}), "text_config holds another vision_config"),
        (hostile("gemma3", model_type="gemma3"), "text_config has model_type 'gemma3', .*'gemma3_text'"),
        (hostile("mistral3", model_type=["mistral"]), r"text_config has model_type \['mistral'\]"),
        (hostile("gemma3") | {"vision_config": 7}, "vision_config is 7, which is not an object"),
        (hostile("gemma3") | {"architectures": [REWARDS]}, "with 2 labels is not supported"),
        (hostile("gemma3") | {"architectures": [REWARDS], "id2label": {"0": "a", "1": "b", "2": "c"}}, "with 3 labels"),
        (hostile("gemma3", num_labels=1) | {"architectures": [REWARDS]}, "with 2 labels"),
        (hostile("gemma3") | {"architectures": [REWARDS, "Gemma3ForConditionalGeneration"]}, "architectures"),
        (hostile("gemma3") | {"architectures": ["Gemma3TextForSequenceClassification"]}, "architectures"),
        (hostile("qwen2_5_vl") | {"architectures": ["Qwen2_5_VLForSequenceClassification"]}, "architectures"),
        (hostile("gemma4") | {"text_config": "config.json"}, "text_config is 'config.json', which is not an object"),
        (hostile("gemma4", text_config={"text_config": {}}), "text_config holds another text_config"),
        (hostile("gemma4", model_type="gemma4"), "text_config has model_type 'gemma4', .*'gemma4_text'"),
        (hostile("gemma4", model_type="gemma3_text"), "text_config has model_type 'gemma3_text'"),
        (hostile("gemma4", num_kv_shared_layers=10**9), "num_kv_shared_layers is 1000000000"),
        (hostile("gemma4", per_layer_config={"9" * 10**6: {}}), "per_layer_config .* is not supported"),
        (hostile("gemma4") | {"architectures": ["Gemma4ForSequenceClassification"]}, "architectures"),
        (hostile("gemma4") | {"audio_config": [7]}, r"audio_config is \[7\], which is not an object"),
        (hostile("gemma4", audio_config={}), "text_config holds another audio_config"),
        (hostile("gemma4", enable_moe_block=True), "enable_moe_block True is not supported"),
        (hostile("gemma4", use_bidirectional_attention="all"), "use_bidirectional_attention 'all' is not supported"),
        ({"model_type": "llama4"}, "'llama4' is not supported: it takes attention within chunks"),
        (hostile("gemma3") | {"architectures": 7}, "architectures 7"),
        (hostile("gemma3") | {"quantization_config": {"bits": 4}}, "quantization_config"),
        (hostile("gemma3", num_hidden_layers=10**9), "num_layers|num_hidden_layers"),
        (hostile("gemma3", rope_scaling={"type": "linear", "factor": 2, "mrope_section": [2]}), "'mrope_section'"),
        (hostile("qwen3_vl", use_sliding_window=True), "use_sliding_window True, which Qwen3-VL"),
        (hostile("qwen3_vl", rope_scaling=[1]), "rope_scaling is .*not an object"),
        (hostile("qwen2_5_vl", rope_scaling={"mrope_section": "x" * 10**6}), "mrope_section is 'xxx"),
        (hostile("qwen2_5_vl", rope_scaling={"mrope_section": [8]}), r"mrope_section is \[8\]"),
        (hostile("qwen2_5_vl", rope_scaling={"mrope_section": [2, 3, 10**9]}), "mrope_section is 1000000000"),
        (hostile("qwen2_5_vl", rope_scaling={"mrope_section": [2, 3, -1]}), "mrope_section is -1"),
        (hostile("qwen2_5_vl", rope_scaling={"mrope_section": [2, 3, 4]}), "are not half of a head's 16"),
        (
            hostile("qwen2_5_vl", num_attention_heads=0, rope_scaling={"mrope_section": [2, 3, 3]}),
            "num_attention_heads",
        ),
    ],
)
def test_refused_in_one_line(config: dict[str, Any], named: str) -> None:
    """Catches a text model that would load and compute something else, or end in a traceback."""
    with pytest.raises(ModelError) as error:
        from_hf(config, "DIR/config.json")
    assert str(error.value).startswith("DIR/config.json: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2000
    assert re.search(named, str(error.value)), str(error.value)
