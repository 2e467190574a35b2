"""Opening a model: what it brings, what it costs, and what is refused."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import ModelError
from tests.models import TEMPLATE, write_model
from tests.processes import printed


def refused(spec: Path | str, named: str) -> None:
    with pytest.raises(ModelError) as error:
        open_checkpoint(str(spec))
    assert "\n" not in str(error.value)
    assert str(spec) in str(error.value)
    assert re.search(named, str(error.value)), str(error.value)


def test_directory_brings_everything(model_dir: Path) -> None:
    """Catches a part that is read from the wrong file."""
    checkpoint = open_checkpoint(str(model_dir))
    assert checkpoint.name == "tiny"
    assert checkpoint.config.num_layers == 2
    assert (checkpoint.tokenizer.bos_id, checkpoint.tokenizer.eos_id) == (0, 1)
    assert checkpoint.chat_template is not None
    assert checkpoint.chat_template.source == TEMPLATE
    assert [path.name for path in checkpoint.files] == [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ]


def test_opening_reads_no_tensor(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches planning that waits for gigabytes."""
    import safetensors

    monkeypatch.setattr(safetensors, "safe_open", None)
    open_checkpoint(str(model_dir))


def test_directory_needs_no_gguf_package(model_dir: Path) -> None:
    """Catches an import that makes an optional reader, or transformers, a condition of every run."""
    code = (
        "import sys; sys.modules['gguf'] = None; from preftree.engine.checkpoint import open_checkpoint; "
        f"open_checkpoint({str(model_dir)!r}); assert 'transformers' not in sys.modules"
    )
    printed("-c", code)


def test_fingerprint_follows_every_file(model_dir: Path, tmp_path: Path, edit_json: Callable[..., None]) -> None:
    """Catches a resumed run that mixes labels of two models, and a fingerprint that depends on the place."""
    first = open_checkpoint(str(model_dir)).fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert open_checkpoint(str(write_model(tmp_path / "elsewhere"))).fingerprint() == first
    seen = {first}
    edit_json("config.json", rms_norm_eps=1e-6)
    seen.add(open_checkpoint(str(model_dir)).fingerprint())
    edit_json("tokenizer_config.json", chat_template=None)
    seen.add(open_checkpoint(str(model_dir)).fingerprint())
    (model_dir / "chat_template.jinja").write_text("{{ messages }}")
    seen.add(open_checkpoint(str(model_dir)).fingerprint())
    weights = bytearray((model_dir / "model.safetensors").read_bytes())
    weights[-4] ^= 1
    (model_dir / "model.safetensors").write_bytes(weights)
    seen.add(open_checkpoint(str(model_dir)).fingerprint())
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A", "A"),
        ([{"name": "tool_use", "template": "B"}, {"name": "default", "template": "C"}], "C"),
        ([{"name": "tool_use", "template": "B"}], None),
        (None, None),
        (..., None),
    ],
)
def test_chat_template_styles(
    model_dir: Path, edit_json: Callable[..., None], value: Any, expected: str | None
) -> None:
    """Catches a named list taken for a template, and an old template that wins over chat_template.jinja."""
    edit_json("tokenizer_config.json", chat_template=value)
    template = open_checkpoint(str(model_dir)).chat_template
    assert (template.source if template else None) == expected
    (model_dir / "chat_template.jinja").write_text("D")
    template = open_checkpoint(str(model_dir)).chat_template
    assert template is not None
    assert template.source == "D"


def test_tokenizer_config_may_be_missing(model_dir: Path) -> None:
    """Catches a KeyError for base models, which often have none."""
    (model_dir / "tokenizer_config.json").unlink()
    checkpoint = open_checkpoint(str(model_dir))
    assert (checkpoint.chat_template, checkpoint.tokenizer.bos_id) == (None, None)


@pytest.mark.parametrize("add_bos_token", [True, False, ...])
@pytest.mark.parametrize("has_processor", [True, False])
def test_bos_is_added_when_transformers_adds_it(
    model_dir: Path, edit_json: Callable[..., None], add_bos_token: Any, has_processor: bool
) -> None:
    """Catches a BOS too many or too few; transformers 5 asks tokenizer.json, not add_bos_token."""
    from transformers import AutoTokenizer

    bos, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    special = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
    processor = {"type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text, text]}
    edit_json("tokenizer.json", post_processor=processor | {"special_tokens": special} if has_processor else None)
    edit_json("tokenizer_config.json", add_bos_token=add_bos_token)
    tokenizer = open_checkpoint(str(model_dir)).tokenizer
    ids = tokenizer.encode(tokenizer.plain("the"))
    assert ids == ([0, 260] if has_processor else [260])
    assert ids == AutoTokenizer.from_pretrained(model_dir).encode("the")


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("config.json", {"model_type": "x", "auto_map": {"AutoModel": "x.Y"}}, "auto_map"),
        ("config.json", {"model_type": "gpt_neox"}, "model_type 'gpt_neox'"),
        ("config.json", {"model_type": "qwen3", "architectures": None}, "layers.0.self_attn.k_norm.weight.* missing"),
        ("config.json", {"vocab_size": 200}, "ids up to 260"),
        ("config.json", {"num_hidden_layers": 3}, "model.layers.2"),
        ("tokenizer_config.json", {"bos_token": 7}, "bos_token is 7"),
        ("tokenizer_config.json", {"eos_token": "<gone>"}, "eos_token '<gone>' is not in"),
        ("tokenizer_config.json", {"chat_template": 7}, "chat_template is 7"),
        ("tokenizer.json", {"model": {"type": "Evil"}}, "tokenizer.json: the tokenizers library refuses"),
    ],
)
def test_bad_directories_are_refused(
    model_dir: Path, edit_json: Callable[..., None], name: str, changes: dict[str, Any], named: str
) -> None:
    """Catches a model that loads although its files do not belong together, or ask for foreign code."""
    edit_json(name, **changes)
    refused(model_dir, named)


def test_code_beside_a_known_model_is_left_alone(model_dir: Path, edit_json: Callable[..., None]) -> None:
    """Catches code that is run, a sound model that is refused for it, and a tokenizer that only its code explains."""
    for module in ("own_model", "own_tokenizer"):
        (model_dir / f"{module}.py").write_text("raise SystemExit('was run')")
    edit_json("config.json", auto_map={"AutoModelForCausalLM": "own_model.Own"})
    edit_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["own_tokenizer.Own", None]})
    notes = open_checkpoint(str(model_dir)).notes
    assert any(note.startswith("auto_map names Python code, which is never run") for note in notes)
    assert "tokenizer.json is read, and the Python code of auto_map is not" in notes
    (model_dir / "tokenizer.json").rename(model_dir / "tokenizer.model")
    refused(model_dir, "auto_map asks for Python code .* never runs; save the tokenizer with transformers")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"a": 1, "a": 2}'])
def test_broken_json_names_the_file(model_dir: Path, name: str, content: bytes) -> None:
    """Catches a traceback, or an error that leaves the user to guess which file."""
    (model_dir / name).write_bytes(content)
    refused(model_dir, name)


def test_missing_files_are_named(model_dir: Path, tmp_path: Path) -> None:
    """Catches a bare FileNotFoundError, and silence about tokenizer.model."""
    refused(tmp_path / "gone", "no such file or directory; give")
    refused(tmp_path, "holds no config.json; it is no Hugging Face")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    refused(tmp_path, "name the file itself: .*x.gguf")
    refused(model_dir / "config.json", "is no .gguf file")
    (model_dir / "tokenizer.json").unlink()
    refused(model_dir, r"holds no tokenizer\.json, no tokenizer\.model and no tekken\.json; download")
    (model_dir / "vocab.json").write_text("{}")
    refused(model_dir, r"vocab\.json is not supported")


def test_huge_json_is_refused_unread(model_dir: Path) -> None:
    """Catches gigabytes of JSON read into memory (the file is sparse)."""
    with (model_dir / "tokenizer.json").open("ab") as file:
        file.truncate(100_000_001)
    refused(model_dir, "tokenizer.json: 100,000,001 bytes is more than")


def test_json_that_grows_is_refused(model_dir: Path) -> None:
    """Catches a small file that becomes gigabytes of lists, and a pipe that is never written to."""
    (model_dir / "tokenizer.json").write_text('{"a": [' + "[]," * 2_000_000 + "1]}")
    refused(model_dir, "more than 2,000,000 lists and objects")
    (model_dir / "tokenizer.json").unlink()
    os.mkfifo(model_dir / "tokenizer.json")
    refused(model_dir, "tokenizer.json: is no file")


def test_code_in_the_directory_is_never_run(model_dir: Path) -> None:
    """Catches an import from a model directory."""
    for name in ("modeling_llama.py", "tokenization_llama.py", "__init__.py", "conftest.py"):
        (model_dir / name).write_text("raise SystemExit('ran')")
    (model_dir / "extra.json").write_text(json.dumps({"auto_map": 1}))
    open_checkpoint(str(model_dir))


def test_every_refusal_names_a_way_out(model_dir: Path, edit_json: Callable[..., None]) -> None:
    """Catches a line that says what is wrong and leaves the user there."""
    config = json.loads((model_dir / "config.json").read_text())
    for field, value in (("hidden_act", "relu"), ("rms_norm_eps", -1), ("model_type", "bert"), ("clip_qkv", 8)):
        edit_json("config.json", **{field: value})
        refused(model_dir, rf"{field}.*; download the model's own files again, or take a model that preftree runs")
        edit_json("config.json", **{field: config.get(field, ...)})
    edit_json("config.json", hidden_size=...)
    refused(model_dir, r"hidden_size is missing; download the model's own config\.json\Z")
