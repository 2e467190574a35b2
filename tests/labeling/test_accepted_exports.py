"""Accepted and abstained pairs are written apart, by a calibration of the same judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from preftree.labeling import cli
from preftree.labeling.calibration.acceptance import Acceptance
from preftree.labeling.calibration.artefact import Calibration
from preftree.labeling.commands.table import FAILURE, OK, USAGE
from tests.labeling.calibrations import ROWS, calibrated, gold_file, judged, table
from tests.labeling.commands import one_error

ACCEPTANCE = Acceptance(0.1, 0.9, 0.7, 40, 20, 1, 0.09, 40, 20, False, 22, None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return judged(tmp_path / "run")


def accepting(run: Path, threshold: float | None) -> Path:
    """A calibration of the run, with this threshold."""
    path = calibrated(run, arguments=["--overwrite"])
    found = replace(Calibration.read(str(path)), acceptance=replace(ACCEPTANCE, threshold=threshold))
    path.write_text(found.text())
    return path


def middle(run: Path) -> float:
    """A confidence that half of the labels have."""
    confidences = sorted(max(one["p_a"], 1 - one["p_a"]) for one in table(run))
    return float(confidences[ROWS // 2])


def export(run: Path, to: str, out: str, *arguments: str | Path) -> int:
    command = ["export", str(run), "--to", to, "--out", str(run.with_name(out)), "--overwrite", *map(str, arguments)]
    return cli.main(command)


def ids(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return list(parquet.read_table(path)["id"].to_pylist())
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def wanted(run: Path, threshold: float) -> tuple[list[str], list[str]]:
    """Accepted and abstained, by what the judge said."""
    rows = [(one["id"], one.get("p_a_uncalibrated", one["p_a"])) for one in table(run)]
    sure = {name: max(p, 1 - p) >= threshold for name, p in rows if p != 0.5}
    return [name for name, is_sure in sure.items() if is_sure], [name for name, is_sure in sure.items() if not is_sure]


@pytest.mark.parametrize("out", ["x.jsonl", "x.parquet"])
def test_two_files(run: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a pair in both files or in none, and labels of an old export beside new ones."""
    accepted, abstained = wanted(run, middle(run))
    path, beside = run.with_name(out), run.with_name(out.replace("x.", "x.abstained."))
    assert export(run, "trl-dpo", out, "--accept", accepting(run, middle(run))) == OK
    assert (ids(path), ids(beside)) == (accepted, abstained)
    said = capsys.readouterr().out
    assert f"{len(accepted)} pairs of {len(accepted) + len(abstained)} (" in said
    assert str(beside) in said
    assert export(run, "trl-dpo", out, "--accept", accepting(run, 0.5001)) == OK
    assert (len(ids(path)), ids(beside)) == (len(accepted) + len(abstained), [])


def test_calibration_does_not_change_what_is_accepted(run: Path) -> None:
    """Catches a threshold that is compared with probabilities it was not found for."""
    path = accepting(run, middle(run))
    expected = wanted(run, middle(run))
    assert export(run, "soft", "x.jsonl", "--accept", path, "--calibration", path) == OK
    assert (ids(run.with_name("x.jsonl")), ids(run.with_name("x.abstained.jsonl"))) == expected
    assert cli.main(["aggregate", str(run), "--calibration", str(path), "--quiet"]) == OK
    assert export(run, "soft", "y.jsonl", "--accept", path) == OK
    assert run.with_name("y.jsonl").read_bytes() == run.with_name("x.jsonl").read_bytes()


def test_people_get_the_rest(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches people who are asked about accepted pairs, and nobody who is asked where nothing is accepted."""
    for threshold in (middle(run), None):
        accepted, abstained = wanted(run, threshold or 1.1)
        assert export(run, "label-studio", "x.json", "--accept", accepting(run, threshold)) == OK
        tasks = json.loads(run.with_name("x.json").read_text())
        assert [task["data"]["pair_id"] for task in tasks] == abstained
        assert f"{len(accepted)} pairs of {len(accepted) + len(abstained)} (" in capsys.readouterr().out


def test_copies_and_annotations(run: Path) -> None:
    """Catches copies of --soften of the other file's pairs, and an object without its end."""
    path = accepting(run, middle(run))
    accepted, abstained = wanted(run, middle(run))
    assert export(run, "kto", "x.jsonl", "--accept", path, "--soften", "3") == OK
    assert [name for name in ids(run.with_name("x.jsonl")) if name.endswith("#1")][::2] == [f"{n}#1" for n in accepted]
    assert len(ids(run.with_name("x.abstained.jsonl"))) == 6 * len(abstained)
    assert export(run, "annotated-pairs", "x.json", "--accept", path) == OK
    found = [json.loads(run.with_name(name).read_text())["comparisons"] for name in ("x.json", "x.abstained.json")]
    assert [[one["id"] for one in part] for part in found] == [accepted, abstained]


def test_calibrate_finds_the_threshold(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches options that do not arrive, and an acceptance that is not in the file."""
    path = calibrated(run, wrong_every=99, arguments=["--max-error", "0.3", "--confidence", "0.8"])
    found = Calibration.read(str(path)).acceptance
    assert found is not None
    assert (found.max_error, found.confidence, found.labels, found.gold_pairs) == (0.3, 0.8, ROWS, ROWS - 1)
    assert found.threshold is not None
    assert found.accepted_gold == len(wanted(run, found.threshold)[0])
    assert "coverage of labels" in capsys.readouterr().out
    assert export(run, "soft", "x.jsonl", "--accept", path) == OK
    path = calibrated(run, arguments=["--max-error", "0.05", "--overwrite"])
    assert "59 without an error" in capsys.readouterr().out
    capsys.readouterr()
    assert export(run, "soft", "x.jsonl", "--accept", path) == FAILURE
    assert "accepts no label; have people compare the pairs" in one_error(capsys)


def test_refusals(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches labels of one judge that are accepted by the gold of another, and a file that is half of two."""
    path = accepting(run, middle(run))
    without = calibrated(run, "without.json")
    odd = tmp_path / "odd.json"
    record = json.loads(path.read_text())
    odd.write_text(json.dumps(record | {"acceptance": {"threshold": 0.9}}))
    other = judged(tmp_path / "other", preamble="base")
    run.with_name("y.abstained.jsonl").write_text("mine")
    cases: Sequence[tuple[Path, Sequence[Any], str]] = [
        (run, ("soft", "x.jsonl", "--accept", without), "does not say which labels to accept"),
        (run, ("soft", "x.jsonl", "--accept", odd), "is damaged"),
        (run, ("soft", "x.jsonl", "--accept", tmp_path / "no.json"), "no such file"),
        (other, ("soft", "x.jsonl", "--accept", path), "is for another judge or template"),
        (run, ("soft", "x.jsonl", "--accept", accepting(judged(tmp_path / "run 2"), 1.0)), "leaves nothing to export"),
        (run, ("label-studio", "x.jsonl"), "label-studio is written to .json"),
        (run, ("trl-dpo", "x.jsonl", "--ties", "keep"), "use trl-soft, soft, annotated-pairs or label-studio"),
    ]
    capsys.readouterr()
    for of, arguments, message in cases:
        assert export(of, *arguments) in (FAILURE, USAGE)
        assert message in one_error(capsys)
    assert not [found for found in tmp_path.iterdir() if found.name.startswith(("x.", ".x"))]
    arguments = ["export", str(run), "--to", "soft", "--out", str(run.with_name("y.jsonl")), "--accept", str(path)]
    assert cli.main(arguments) == FAILURE
    assert "y.abstained.jsonl exists already" in one_error(capsys)
    gold = str(gold_file(run))
    command = ["calibrate", str(run), "--gold", gold, "--out", str(tmp_path / "c.json")]
    for options, message in (
        (["--confidence", "0.9"], "--confidence requires --max-error"),
        (["--max-error", "1"], "--max-error must be a number above 0 and below 1"),
    ):
        assert cli.main([*command, *options]) == USAGE
        assert message in one_error(capsys)
