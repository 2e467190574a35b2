"""`preftree doctor`: what it says of a sound model, and that it fails for each way a model can be unsound."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from preftree.engine.gguf import embedded
from preftree.kernels import isa
from preftree.labeling.cli import main
from preftree.labeling.commands.table import FAILURE, OK
from tests.labeling.commands import unwrapped
from tests.models import REWARD_HEAD, SMALL_CONFIG, TEMPLATE, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny", SMALL_CONFIG)


def set_template(model: Path, template: str | None) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))


def whole_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed, each line with what goes on below it."""
    text = re.sub(r"^(.{1,23})\n {24}", lambda name: f"{name[1]:24}", capsys.readouterr().out, flags=re.MULTILINE)
    return re.sub(r"\n {24}", " ", text).splitlines()


def examine(model: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and status and detail by name."""
    code = main(["doctor", str(model)])
    lines = whole_lines(capsys)
    assert all(line[22:24] == "  " for line in lines), "a name is wider than its column"
    return code, {line[8:22].strip(): (line[:6].strip(), line[24:]) for line in lines}


def test_a_sound_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a line that is missing, and a check that fails for no reason."""
    code, found = examine(model, capsys)
    assert code == OK
    assert {status for status, _ in found.values()} == {"ok", ""}
    assert found["torch"] == ("ok", torch.__version__)
    assert found["architecture"] == ("", "Llama, 3 layers of width 96")
    assert found["stored as"] == ("", "F32 (30) in 1 file")
    assert found["context"] == ("", "4,096 tokens")
    assert found["tokenizer"] == ("", "BPE from tokenizer.json, 261 ids, 3 control tokens")
    assert "in float32 on cpu" in found["memory"][1]
    assert found["tensors"][0] == found["weights"][0] == found["chat template"][0] == "ok"
    assert found["BOS"] == ("ok", "once, id 0")
    assert found["labels"][1].startswith("'1' is [")


@pytest.mark.parametrize(
    ("pad", "said"), [(None, "names no pad token"), (1, "pad token 1 is an end-of-sequence token"), (2, None)]
)
def test_a_reward_model(pad: int | None, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a doctor that looks for labels, and a pad token that moves where transformers reads a reward."""
    config = SMALL_CONFIG | REWARD_HEAD | {"eos_token_id": [7, 1], "pad_token_id": pad}
    code, found = examine(write_model(tmp_path / "reward", config), capsys)
    assert code == OK
    assert found["architecture"] == ("", "Llama reward model, 3 layers of width 96")
    assert found["labels"] == ("", "none: it gives rewards")
    assert found["BOS"] == ("ok", "once, id 0")
    assert ("padding" in found) is (said is not None)
    if said is not None:
        assert said in found["padding"][1]


def test_without_a_model_it_looks_at_the_software(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a doctor that needs a model to say what is installed."""
    assert main(["doctor"]) == OK
    out = "\n".join(whole_lines(capsys))
    assert "tokenizers" in out
    assert "device cpu" in out
    assert "architecture" not in out
    assert "\nok      default model  " in out


def test_the_default_model_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    """Catches a machine that is found well, on which the first `preftree label` fails."""
    monkeypatch.setattr(embedded, "PACKAGE", "no-such-package")
    assert main(["doctor"]) == FAILURE
    last = whole_lines(capsys)[-1]
    assert last.startswith("failed  default model   the embedded model is not installed; fetch it with: preftree ")
    assert last.endswith("; or name a model of yours with --model")
    assert examine(model, capsys)[0] == OK


def test_the_types_of_a_processor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a doctor that does not say why "auto" is what it is."""
    monkeypatch.setattr(isa, "default_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(isa, "instructions", lambda name: f"on {name}")
    monkeypatch.setattr(isa, "limit", lambda: None)
    fp8 = "fp8 (emulated, slow: for figures of its accuracy)"
    for obstacle, int8 in ((None, "int8 (on int8)"), ("it needs a wand", "no int8: it needs a wand")):
        monkeypatch.setattr(isa, "int8_obstacle", lambda obstacle=obstacle: obstacle)
        assert main(["doctor"]) == OK
        types = f"auto is bfloat16; float32 (on float32); bfloat16 (on bfloat16); {fp8}; {int8}"
        assert types in unwrapped(capsys.readouterr().out)
    monkeypatch.setattr(isa, "limit", lambda: "ONEDNN_MAX_CPU_ISA=AVX2")
    assert main(["doctor"]) == OK
    assert "; ONEDNN_MAX_CPU_ISA=AVX2 " in unwrapped(capsys.readouterr().out)


def break_weights(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][5, 5] = float("nan")
    save_file(tensors, str(model / "model.safetensors"))


def lose_a_tensor(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, str(model / "model.safetensors"))


@pytest.mark.parametrize(
    ("harm", "name", "said"),
    [
        (break_weights, "weights", "layers.2.mlp.up_proj.weight holds NaN or infinity"),
        (lose_a_tensor, "model", "tensor 'model.norm.weight' is missing"),
        (lambda model: (model / "config.json").unlink(), "model", "holds no config.json"),
        (lambda model: set_template(model, "{% for"), "chat template", "is broken"),
        (lambda model: set_template(model, "{{ bos_token }}" + TEMPLATE), "BOS", "twice"),
        (lambda model: set_template(model, TEMPLATE + "<think>\n"), "chat template", "begin with thinking"),
    ],
)
def test_an_unsound_model_fails(
    model: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None], name: str, said: str
) -> None:
    """Catches a fault that is found and not told, or told with exit code 0."""
    harm(model)
    code, found = examine(model, capsys)
    assert code == FAILURE
    status, detail = found[name]
    assert status == "failed"
    assert said in detail


def test_a_model_without_chat_template(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a base model that is called broken."""
    set_template(model, None)
    code, found = examine(model, capsys)
    assert (code, found["chat template"]) == (OK, ("", "none; prompts are plain text"))


def assumed(model: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Details of the lines that say what was assumed."""
    assert main(["doctor", str(model)]) == OK
    lines = whole_lines(capsys)
    return [line[24:] for line in lines if line[8:22].strip() == "assumed"]


def test_what_is_assumed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches defaults and choices of files without a word, and words where config.json says it all."""
    path = model / "config.json"
    config = json.loads(path.read_text()) | {"tie_word_embeddings": False, "rope_theta": 1e4}
    path.write_text(json.dumps(config))
    assert assumed(model, capsys) == []
    del config["max_position_embeddings"], config["rope_theta"], config["rms_norm_eps"]
    path.write_text(json.dumps(config))
    (model / "chat_template.jinja").write_text(TEMPLATE)
    (model / "tokenizer.model").write_bytes(b"")
    assert assumed(model, capsys) == [
        "tokenizer.json is read, and tokenizer.model is not",
        "the chat template is chat_template.jinja, not the one in tokenizer_config.json",
        "max_position_embeddings 2048, rms_norm_eps 1e-06, rope_theta 10000.0: config.json says nothing, and these are "
        "the defaults of LlamaForCausalLM",
    ]
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e5}
    path.write_text(json.dumps(config))
    assert "rope_theta" not in assumed(model, capsys)[-1]


def test_templates_with_names(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches one of several templates that is taken, or none of them, without a word."""
    named = [{"name": name, "template": TEMPLATE} for name in ("default", "tool_use")]
    for listed, said in (
        (named, "the chat template is the one named default among those in tokenizer_config.json (default, tool_use)"),
        (named[1:], "no chat template is read: none is named default among those in tokenizer_config.json (tool_use)"),
    ):
        path = model / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": listed}))
        assert assumed(model, capsys)[0] == said
