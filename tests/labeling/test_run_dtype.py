"""The type of a run: chosen, printed, recorded, and the same when the run is resumed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from preftree import label_file
from preftree.engine.errors import OutputError
from preftree.kernels import isa
from preftree.kernels.isa import default_dtype  # the fixture of all tests replaces it in its module
from preftree.kernels.ops import implementation
from preftree.labeling import cli
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.manifest import difference
from tests.labeling.commands import one_error, preftree, unwrapped
from tests.labeling.fakes import row, write_rows
from tests.models import SMALL_CONFIG, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", [row(id="one", gold="a"), row(id="two", response_a="other")])


def choose(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, bfloat16_on: str = "avx512_bf16") -> None:
    """A processor on which "auto" is `dtype`."""
    monkeypatch.setattr(isa, "default_dtype", lambda: dtype)
    monkeypatch.setattr(isa, "instructions", {"bfloat16": bfloat16_on, "float32": "avx512"}.__getitem__)


def label(source: Path, out: Path, model: str, *options: str) -> int:
    """A run that loads its model even where all rows are done."""
    return cli.main(["label", str(source), "--out", str(out), "--model", model, "--retry-rejects", *options])


def judge_of(out: Path) -> dict[str, Any]:
    judge: dict[str, Any] = json.loads((out / "run.json").read_text())["scorer"]
    return judge


def kernels() -> str:
    """How a record of bfloat16 names compiled operations, where there are some."""
    build = implementation(torch.device("cpu"), torch.bfloat16).build()
    return f", kernels {build}" if build else ""


def test_the_choice_is_printed_and_recorded(
    source: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a type that is chosen without a word, before a run, in a plan, or in what is left of a run."""
    both = (torch.bfloat16, f"bfloat16 (avx512_bf16{kernels()})"), (torch.float32, "float32 (avx512)")
    for dtype, words in both:
        choose(monkeypatch, dtype)
        out = tmp_path / words.partition(" ")[0]
        assert label(source, out, model) == 0
        said = unwrapped("".join(capsys.readouterr()))
        assert said.count(f"small, cpu, {words}") == 2, "at the start and in the summary"
        assert f"{judge_of(out)['dtype']} ({judge_of(out)['instructions']})" == words
        assert cli.main(["plan", str(source), "--model", model]) == 0
        assert f"small, cpu, {words}" in capsys.readouterr().out


def test_another_choice_does_not_resume(
    source: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches labels of two types in one file, a refusal without a way out, and a way out that leads nowhere."""
    choose(monkeypatch, torch.float32)
    assert label(source, tmp_path / "run", model, "--quiet") == 0
    before = (tmp_path / "run" / "labels.parquet").read_bytes()
    choose(monkeypatch, torch.bfloat16)
    assert label(source, tmp_path / "run", model, "--quiet") == 1
    said = one_error(capsys)
    assert "scorer.dtype was float32 and is bfloat16 now; resume it with --dtype float32, name another --out" in said
    assert "--overwrite" in said
    assert label(source, tmp_path / "run", model, "--quiet", "--dtype", "fp32") == 0
    assert (tmp_path / "run" / "labels.parquet").read_bytes() == before
    assert label(source, tmp_path / "run", model, "--quiet", "--overwrite") == 0
    assert judge_of(tmp_path / "run")["dtype"] == "bfloat16"


def test_hidden_instructions_are_noticed(source: Path, tmp_path: Path, model: str) -> None:
    """On this machine as it is, in processes of their own: the choice follows what oneDNN may use."""
    if isa.instructions("float32") == "avx2" or not isa.runs("avx2"):
        pytest.skip("there is nothing to hide")
    command: list[str | Path] = [
        "label",
        source,
        "--out",
        tmp_path / "run",
        "--model",
        model,
        "--device",
        "cpu",
        "--retry-rejects",
    ]
    hidden = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = preftree(*command, own=hidden)
    assert done.returncode == 0, done.stderr
    assert "running small, cpu, float32 (avx2)" in done.stderr
    assert preftree(*command, own=hidden).returncode == 0
    done = preftree(*command)
    assert done.returncode == 1
    name, then, now = (
        ("dtype", "float32", "bfloat16") if default_dtype() == torch.bfloat16 else ("instructions", "avx2", "avx512")
    )
    assert f"scorer.{name} was {then} and is {now} now; " in done.stderr


def test_other_instructions_do_not_resume(
    source: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As another GPU does not: the same type on another processor, whose sums have other last bits."""
    choose(monkeypatch, torch.bfloat16, "amx")
    assert label(source, tmp_path / "run", model, "--quiet") == 0
    choose(monkeypatch, torch.bfloat16, "avx512_bf16")
    assert label(source, tmp_path / "run", model, "--quiet") == 1
    refusal = f"scorer.instructions was amx{kernels()} and is avx512_bf16{kernels()} now; name another --out"
    assert refusal in one_error(capsys)


def test_a_complete_run_in_another_type_is_not_taken_for_the_one_asked_for(
    source: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row need be judged again, so that no weights are loaded that could say what differs."""
    choose(monkeypatch, torch.float32)
    label_file(source, tmp_path / "run", model, dtype="float32")
    label_file(source, tmp_path / "run", model, dtype=torch.float32)
    label_file(source, tmp_path / "run", model)
    with pytest.raises(OutputError, match="resume it with --dtype float32"):
        label_file(source, tmp_path / "run", model, dtype="bfloat16")


def test_a_record_without_instructions_is_of_the_same_run() -> None:
    """Catches runs of earlier versions that cannot be resumed any more."""
    then: dict[str, Any] = {"scorer": {"dtype": "float32"}}
    now: dict[str, Any] = {"scorer": {"dtype": "float32", "instructions": "avx512"}}
    assert difference(then, now) is None
    assert difference(now, {"scorer": {"dtype": "float32", "instructions": "avx2"}}) is not None


@pytest.mark.parametrize(("name", "value"), [("fence", True), ("comparisons", 4), ("probes", ["order"])])
def test_a_record_without_an_option_was_made_by_its_default(name: str, value: Any) -> None:
    """Catches runs of earlier versions that cannot be resumed, or are resumed with an option that they were not made
    with.
    """
    now = json.loads(json.dumps(asdict(LabelOptions(input="x", out="y"))))
    then = {option: known for option, known in now.items() if option != name}
    assert difference({"options": then}, {"options": now}) is None
    said = difference({"options": then}, {"options": {**now, name: value}})
    assert said is not None
    assert said.startswith(f"options.{name} was ")
    sampled = json.loads(json.dumps(asdict(SampleOptions(input="x", out="y"))))
    before = {option: known for option, known in sampled.items() if option != "temperature"}
    records = ({"method": {"name": "sample"}, "options": options} for options in (before, sampled))
    assert difference(*records) is None


def test_the_config_of_a_run_gives_its_type(
    source: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches other labels from the run.json of a machine that chose otherwise."""
    choose(monkeypatch, torch.bfloat16)
    assert label(source, tmp_path / "run", model, "--quiet") == 0
    choose(monkeypatch, torch.float32)
    config = ["label", "--quiet", "--config", str(tmp_path / "run" / "run.json")]
    assert cli.main([*config, "--out", str(tmp_path / "again")]) == 0
    again, run = ((tmp_path / name / "labels.parquet").read_bytes() for name in ("again", "run"))
    assert (judge_of(tmp_path / "again")["dtype"], again) == ("bfloat16", run)
    assert cli.main([*config, "--out", str(tmp_path / "chosen"), "--dtype", "auto"]) == 0
    assert judge_of(tmp_path / "chosen")["dtype"] == "float32"
