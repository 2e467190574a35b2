"""Runs on several devices: recorded, resumed on another number of them, and ended in one line where one fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from preftree.engine.errors import UsageError
from preftree.engine.model.model import Model
from preftree.labeling.cli import main
from preftree.labeling.options.model import ModelOptions
from tests.labeling.fakes import row, write_rows


def test_a_device_that_fails_in_mid_run(
    small_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback, answers that are lost with the device, and a run that cannot be resumed on a single one."""
    rows = [row(id=str(number), prompt=f"{number} " * (20 + number)) for number in range(8)]
    source = write_rows(tmp_path / "in.jsonl", rows)

    def labelled(name: str, *more: str) -> int:
        asked = ["label", str(source), "--model", small_model, "--out", str(tmp_path / name), "--batch-tokens", "600"]
        return main([*asked, *more])

    runs, passes, fails_at = Model.final_hidden, list[int](), 0

    def failing(self: Model, *arguments: Any) -> torch.Tensor:
        passes.append(self.num_stages)
        if len(passes) == fails_at:
            raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nand more")
        return runs(self, *arguments)

    monkeypatch.setattr(Model, "final_hidden", failing)
    assert labelled("whole", "--device", "cpu") == 0
    whole_passes, fails_at = len(passes), 5
    passes.clear()
    capsys.readouterr()
    assert labelled("divided", "--devices", "cpu,cpu") == 1
    [said] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("preftree: ")]
    assert "device 'cpu', 'cpu' failed (CUDA error: uncorrectable ECC error encountered)" in said
    assert passes == [2] * 5
    record = json.loads((tmp_path / "divided" / "run.json").read_text())
    assert (record["scorer"]["devices"], record["options"]["devices"]) == (["cpu", "cpu"], "cpu,cpu")
    assert labelled("divided", "--device", "cpu") == 0
    assert 5 < len(passes) < 5 + whole_passes, "what was finished is not judged again"
    whole, resumed = ((tmp_path / name / "labels.parquet").read_bytes() for name in ("whole", "divided"))
    assert resumed == whole


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0,1", "cuda:0,cuda:1"),
        ([1, "cuda:3"], "cuda:1,cuda:3"),
        ("cpu, cpu", "cpu,cpu"),
        ((torch.device("cpu"),), "cpu"),
    ],
)
def test_names_of_devices(given: Any, expected: str) -> None:
    """Catches names of Python and of the command line that mean different things, and a run.json that keeps objects."""
    assert ModelOptions(devices=given).devices == expected


@pytest.mark.parametrize("wrong", ["", "0,,1", "gpu", "auto", "0;1", "-1", "cuda", "1000", "0,mps"])
def test_names_that_are_none(wrong: str) -> None:
    with pytest.raises(UsageError, match="--devices must be numbers of GPUs, such as 0,1"):
        ModelOptions(devices=wrong)


def test_a_device_and_devices() -> None:
    with pytest.raises(UsageError, match="--devices excludes --device"):
        ModelOptions(devices="0,1", device="cuda:0")
