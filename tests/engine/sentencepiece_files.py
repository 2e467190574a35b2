"""SentencePiece models for tests: real ones of a data package, and small ones trained here."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from tests.engine.tokenizer_families import corpus

# The Makefile puts the package beside the environment, not into it: nothing but its data files is wanted.
REAL = Path(sys.prefix) / "data" / "mistral_common" / "data"
V1, V3 = "tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3"
ALL = (
    V1,
    "mistral_instruct_tokenizer_240216.model.v2",
    V3,
    "mistral_instruct_tokenizer_241114.model.v7",
    "mistral_instruct_tokenizer_241114.model.v7m1",
)
NO_PREFIX = b"\x1a\x02\x18\x00"  # normalizer_spec { add_dummy_prefix: false }


def real(name: str) -> Path:
    if not (REAL / name).is_file():
        pytest.skip("the data package mistral-common is missing; `make test` installs it")
    return REAL / name


def trained(path: Path, **options: Any) -> Path:
    """A model of 400 pieces, by default with Llama's settings."""
    settings: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": 400,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "minloglevel": 2,
        "num_threads": 1,
    }
    writer = io.BytesIO()
    lines = [line for line in corpus() if line]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=writer, **(settings | options))
    path.write_bytes(writer.getvalue())
    return path


def library(path: Path, more: bytes = b"") -> Any:
    """SentencePiece's own reading; `more` is appended to the message, where later fields win."""
    return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes() + more)
