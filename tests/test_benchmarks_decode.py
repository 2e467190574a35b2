"""`python -m benchmarks.decode`: engine and transformers in the same type, which is printed and recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import continuations, decode
from benchmarks.peers.transformers import load_transformers
from benchmarks.random_model import small_config, write_random_model


@pytest.mark.parametrize(("option", "dtype"), [("", "float32"), ("--dtype bfloat16", "bfloat16")])
def test_both_decode_in_the_type_that_is_named(
    option: str, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch an engine in its own preferred type beside transformers in another, and a silent default."""
    monkeypatch.setattr(continuations, "_BANDWIDTH_BYTES", 1 << 20)
    monkeypatch.setattr(decode, "HOST_TOKENS", 5)
    loaded: list[torch.dtype] = []

    def noted(directory: Path, dtype: torch.dtype) -> Any:
        loaded.append(dtype)
        return load_transformers(directory, dtype)

    monkeypatch.setattr(decode, "load_transformers", noted)
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"prompt": "Why?", "response_a": "So.", "response_b": "No."}), encoding="utf-8")
    model = write_random_model(tmp_path, small_config(num_layers=1, hidden_size=64))
    given = f"--data {data} --model {model} --device cpu --pairs 1 --tokens 3 --rounds 1 --batches 2 {option}"
    assert decode.main(given.split()) == 0
    text = capsys.readouterr().out
    whole = json.loads(text.splitlines()[-1])
    assert f"dtype      {dtype}, of the engine and of transformers" in text
    assert whole["dtype"] == dtype
    assert 0 < whole["host_seconds_per_step"]["plain"] < 0.1
    assert loaded == [getattr(torch, dtype)]
    assert set(whole["compared"]["tokens_per_second"]) == {"engine", "transformers"}
