"""A finished run knows what it is: the same command gives the same labels, or says what is not the same."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling import cli
from preftree.labeling.judge.judge import Judge
from tests.labeling.commands import one_error, preftree
from tests.labeling.fakes import row, write_rows
from tests.models import SMALL_CONFIG, write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", SMALL_CONFIG)


@pytest.fixture
def finished(model: Path, tmp_path: Path) -> list[str]:
    """The command of a finished run in float32."""
    source = write_rows(tmp_path / "in.jsonl", [row(id="one", gold="a"), row(id="two", response_a="other")])
    out = str(tmp_path / "out")
    command = ["label", str(source), "--model", str(model), "--out", out, "--device", "cpu", "--quiet"]
    assert cli.main([*command, "--dtype", "float32"]) == 0
    return command


def files(command: list[str]) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in Path(command[5]).rglob("*") if path.is_file() and path.name != "lock"
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dtype", "bfloat16"], "scorer.dtype was float32 and is bfloat16 now; resume it with --dtype float32"),
        (["--dtype", "float32", "--plain"], "scorer.rendering was chat and is plain now"),
        (["--dtype", "float32", "--preamble", "base"], "options.preamble was detailed and is base now"),
    ],
)
def test_another_way_to_ask(
    finished: list[str], options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches old labels under the name of the options that were asked for."""
    before = files(finished)
    assert cli.main([*finished, *options]) == 1
    assert said in one_error(capsys)
    assert files(finished) == before
    assert cli.main([*finished, "--dtype", "float32"]) == 0
    assert files(finished) == before


def test_other_weights_at_the_same_path(finished: list[str], model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches labels of weights that are not there any more."""
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    before = files(finished)
    assert cli.main([*finished, "--dtype", "float32"]) == 1
    assert "scorer.model_sha256 was " in one_error(capsys)
    assert files(finished) == before


def test_a_model_that_is_gone(finished: list[str], model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches success in the name of a model that nobody could look at."""
    shutil.rmtree(model)
    before = files(finished)
    assert cli.main([*finished, "--dtype", "float32"]) == 1
    assert "no such file or directory" in one_error(capsys)
    assert files(finished) == before


def test_a_model_is_read_where_its_files_have_changed(
    finished: list[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches minutes of hashing to hear that nothing is left to do, and a copy that is taken for another model."""
    from preftree.engine.checkpoint import Checkpoint

    def explode(_: object) -> str:
        raise AssertionError("the model was read")

    monkeypatch.setattr(Checkpoint, "fingerprint", explode)
    assert cli.main([*finished, "--dtype", "float32"]) == 0
    monkeypatch.undo()
    os.utime(model / "config.json")
    assert cli.main([*finished, "--dtype", "float32"]) == 0
    (model / "config.json").write_text((model / "config.json").read_text() + " ")
    assert cli.main([*finished, "--dtype", "float32"]) == 1


def test_what_a_judge_without_weights_says(model: Path) -> None:
    """Catches a comparison that weights would have made otherwise."""
    whole: dict[str, Any] = json.loads(json.dumps(Judge.load(str(model), dtype="float32").describe()))
    planned = Judge.load(str(model), dtype="float32", weights=False)
    assert planned.describe()["model_sha256"] is None, "a plan does not wait for a hash"
    assert json.loads(json.dumps(planned.describe(whole))) == whole
    other = Judge.load(str(model), dtype="float32", weights=False).describe(whole | {"model_files": []})
    assert other["model_sha256"] == whole["model_sha256"]


@pytest.mark.parametrize("variable", ["ATEN_CPU_CAPABILITY=avx2", "MKL_CBWR=COMPATIBLE", "ONEDNN_MAX_CPU_ISA=AVX2"])
def test_other_arithmetic(finished: list[str], variable: str) -> None:
    """Catches a run that was killed and resumed where its sums have other last bits."""
    name, _, value = variable.partition("=")
    part = next(Path(finished[5]).glob("answers/*"))
    part.unlink()
    (Path(finished[5]) / "labels.parquet").unlink()
    before = files(finished)
    done = preftree(*finished, "--dtype", "float32", own={name: value})
    if done.returncode == 0:
        pytest.skip(f"{variable} changes nothing here")
    assert "holds another run: scorer." in done.stderr
    if "scorer.arithmetic" in done.stderr:
        assert "this process computes other bits; resume it where the processor and variables such as" in done.stderr
    assert files(finished) == before
