"""A calibration reaches labels, exports and the server, of the judge that it was made for and of no other."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest
from pyarrow import parquet

from preftree.engine.errors import InputError, PreftreeError, UsageError
from preftree.labeling import cli
from preftree.labeling.api import label
from preftree.labeling.calibration.artefact import Calibration
from preftree.labeling.calibration.identity import judged_of
from preftree.labeling.commands.table import FAILURE, OK, USAGE
from preftree.labeling.data.labels_file import LABELS
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.calibrated import CalibratedLabel
from preftree.labeling.methods.probability import probability
from preftree.labeling.methods.registry import make_method, open_method
from preftree.labeling.methods.reward_labels import RewardLabel
from preftree.labeling.options.methods import RewardOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.shards import merge
from tests.labeling.calibrations import ROWS, calibrated, gold_file, gold_rows, judged, table
from tests.labeling.commands import one_error
from tests.labeling.fakes import FakeScorer
from tests.labeling.rundir.runs import labels, record
from tests.labeling.serving.fakes import FakeJudge, serving


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return judged(tmp_path / "run")


class OtherModel(FakeScorer):
    def describe(self, before: Any = None) -> dict[str, Any]:
        return {**super().describe(before), "model_sha256": "2" * 64}


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_labels_are_made_again(run: Path, method: str) -> None:
    """Catches a verdict or another column that changes, a p_a that is calibrated twice, and a lost p_a of the judge."""
    before, bytes_before = table(run), labels(run)
    path = calibrated(run, arguments=["--method", method])
    found = Calibration.read(str(path))
    assert cli.main(["aggregate", str(run), "--calibration", str(path), "--quiet"]) == OK
    path.unlink()
    for _ in range(2):
        for old, new in zip(before, table(run), strict=True):
            assert new.pop("p_a_uncalibrated") == old["p_a"]
            assert new == {**old, "p_a": found.at(old["p_a"])}
        assert cli.main(["aggregate", str(run), "--quiet"]) == OK  # as the run has it, whose record is all it takes
    assert table(run)[7]["p_a"] == 0.5
    assert record(run)["method"]["calibration"] == {"sha256": found.sha256, "source": found.record()}
    again = calibrated(run, "again.json", arguments=["--method", method])
    assert Calibration.read(str(again)) == found, "a calibrated run is calibrated by what the judge said"
    assert cli.main(["aggregate", str(run), "--calibration", "none", "--quiet"]) == OK
    assert labels(run) == bytes_before


def test_calibrated_from_the_start(run: Path, tmp_path: Path) -> None:
    """Catches `label` and `aggregate` that disagree, and a run that is judged again to be calibrated."""
    path = str(calibrated(run))
    assert cli.main(["aggregate", str(run), "--calibration", path, "--quiet"]) == OK
    assert labels(judged(tmp_path / "new", calibration=path)) == labels(run)
    scorer = FakeScorer()
    judged(tmp_path / "new", scorer, calibration=str(calibrated(run, "other.json", wrong_every=3)))
    assert scorer.calls == []
    assert labels(tmp_path / "new") != labels(run)
    judged(tmp_path / "new", scorer)
    assert scorer.calls == []
    assert "p_a_uncalibrated" not in table(tmp_path / "new")[0]


def test_shards(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a joined run that is not calibrated, or in parts by different calibrations."""
    path, other = str(calibrated(run)), str(calibrated(run, "other.json", wrong_every=3))
    for index in (1, 2):
        judged(tmp_path / f"shard {index}", shard=f"{index}/2", calibration=path)
    judged(tmp_path / "odd", shard="2/2", calibration=other)
    shards = [str(tmp_path / "shard 1"), str(tmp_path / "shard 2")]
    merge(shards, str(tmp_path / "whole"), None, overwrite=False, quiet=True)
    assert cli.main(["aggregate", str(run), "--calibration", path, "--quiet"]) == OK
    assert labels(tmp_path / "whole") == labels(run)
    capsys.readouterr()
    assert cli.main(["merge", shards[0], str(tmp_path / "odd"), "--out", str(tmp_path / "x")]) == FAILURE
    assert "method.calibration.sha256 was" in one_error(capsys)


@pytest.mark.parametrize("rule", ["strongest", "scaled"])
def test_principles(tmp_path: Path, rule: str) -> None:
    """Catches figures over the run that are made of labels of another kind, or not at all."""
    run = judged(tmp_path / "run", FakeScorer(window_tokens=20_000), method="salmon", aggregate=rule)
    before = table(run)
    path = calibrated(run)
    assert cli.main(["aggregate", str(run), "--calibration", str(path), "--quiet"]) == OK
    found = Calibration.read(str(path))
    for old, new in zip(before, table(run), strict=True):
        assert new == {**old, "p_a": found.at(old["p_a"]), "p_a_uncalibrated": old["p_a"]}


def exported(run: Path, out: Path, *arguments: str) -> list[dict[str, Any]]:
    command = ["export", str(run), "--to", "trl-soft", "--out", str(out), "--overwrite", *arguments]
    assert cli.main(command) == OK
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_export(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an export that writes to the run, selects before it calibrates, or calibrates what is calibrated."""
    path, other = str(calibrated(run)), str(calibrated(run, "other.json", wrong_every=3))
    plain, before = exported(run, tmp_path / "x.jsonl"), labels(run)
    sure = max(one["p_chosen"] for one in plain)
    found = Calibration.read(path)
    wanted = [{**one, "p_chosen": found.at(one["p_chosen"])} for one in plain]
    assert exported(run, tmp_path / "x.jsonl", "--calibration", path) == wanted
    kept = exported(run, tmp_path / "x.jsonl", "--calibration", path, "--min-confidence", str(sure))
    assert [one["id"] for one in kept] == [one["id"] for one in wanted if one["p_chosen"] >= sure]
    assert kept
    assert labels(run) == before
    assert cli.main(["aggregate", str(run), "--calibration", path, "--quiet"]) == OK
    assert exported(run, tmp_path / "x.jsonl") == exported(run, tmp_path / "x.jsonl", "--calibration", path) == wanted
    capsys.readouterr()
    command = ["export", str(run), "--to", "soft", "--out", str(tmp_path / "y.jsonl"), "--calibration", other]
    assert cli.main(command) == FAILURE
    assert "are calibrated already, and not by" in one_error(capsys)


def test_a_calibration_of_another_judge(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches labels that are calibrated by what is true of another model or template, or a refusal without way out."""
    path = str(calibrated(run))
    judged(tmp_path / "model", OtherModel())
    judged(tmp_path / "template", template="summarization")
    judged(tmp_path / "preamble", preamble="base")
    judged(tmp_path / "direct", FakeJudge(), method="direct")
    parquet.write_table(parquet.read_table(run / LABELS), tmp_path / "labels.parquet")
    nobody = str(tmp_path / "nobody.json")
    gold = str(gold_file(run))
    assert cli.main(["calibrate", str(tmp_path / "labels.parquet"), "--gold", gold, "--out", nobody]) == OK
    cases = [
        (
            "model",
            path,
            "for another judge or template: scorer.model_sha256 was 111111111111... and is 222222222222... now",
        ),
        ("template", path, "method.template.name was general and is summarization now"),
        ("preamble", path, "options.preamble was null and is base now"),
        ("run", nobody, "labels that do not say who judged them"),
    ]
    capsys.readouterr()
    for name, calibration, said in cases:
        command = ["aggregate", str(tmp_path / name), "--calibration", calibration, "--quiet"]
        assert cli.main(command) == FAILURE
        error = one_error(capsys)
        assert said in error
        assert error.endswith("make one for these labels with `preftree calibrate`")
        command = ["export", str(tmp_path / name), "--to", "soft", "--out", str(tmp_path / "x.jsonl")]
        assert cli.main([*command, "--calibration", calibration]) == FAILURE
        assert said in one_error(capsys)
    assert cli.main(["aggregate", str(tmp_path / "direct"), "--calibration", path, "--quiet"]) == USAGE
    assert "--calibration is not for method direct" in one_error(capsys)
    with pytest.raises(PreftreeError, match="for another judge"):
        judged(tmp_path / "new", OtherModel(), calibration=path)
    assert not (tmp_path / "new").exists()


def test_options_that_have_their_default_are_none() -> None:
    """Catches a list of run.json that is not the tuple of the options, and an option that earlier runs do not have."""
    named = {"method": {"name": "rlaif"}, "scorer": {}}
    options = asdict(LabelOptions(input="x", out="y", preamble="base"))
    found = judged_of({**named, "options": options})
    assert found == judged_of({**named, "options": json.loads(json.dumps(options))})
    assert found == judged_of({**named, "options": {"preamble": "base"}})
    assert found["options.preamble"] == "base"


def test_the_input_and_the_machine_may_be_others(run: Path, tmp_path: Path) -> None:
    """Catches a calibration that is good for the gold pairs alone."""
    path = str(calibrated(run))
    judged(tmp_path / "limited", limit=5, batch_tokens=99, calibration=path)
    assert len(table(tmp_path / "limited")) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: "{", "is no calibration; make one"),
        (lambda found: "[]", "is no calibration; make one"),
        (lambda found: json.dumps({**found, "schema": 2}), "has schema 2, not 1"),
        (lambda found: json.dumps({**found, "parameters": {}}), "is damaged (KeyError: 'slope')"),
        (lambda found: json.dumps({**found, "parameters": {"slope": -1, "standard_error": None}}), "damaged"),
        (lambda found: json.dumps({**found, "method": []}), "is damaged"),
        (lambda found: json.dumps({**found, "judged": None}), "is no calibration"),
        (lambda found: json.dumps({**found, "before": {"nll": [1]}}), "is damaged"),
    ],
)
def test_damaged_calibrations(run: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str) -> None:
    """Catches a traceback, or labels by half a calibration."""
    path = calibrated(run)
    capsys.readouterr()
    path.write_text(change(json.loads(path.read_text())))
    assert cli.main(["aggregate", str(run), "--calibration", str(path), "--quiet"]) == FAILURE
    assert said in one_error(capsys)
    path.unlink()
    assert cli.main(["aggregate", str(run), "--calibration", str(path), "--quiet"]) == FAILURE
    assert "no such file" in one_error(capsys)


def test_reports_show_both(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a report of a calibrated run that does not say that it is, or what it was before."""
    pytest.importorskip("matplotlib")
    with_gold = judged(tmp_path / "with gold", gold={one["id"]: one["gold"] for one in gold_rows(run)})
    path = str(tmp_path / "cal.json")
    assert cli.main(["calibrate", str(with_gold), "--out", path, "--subset", "kind"]) == OK
    said = capsys.readouterr().out
    assert said.count("log loss") == 3
    assert "subset easy" in said
    assert cli.main(["aggregate", str(with_gold), "--calibration", path, "--quiet"]) == OK
    assert cli.main(["report", str(with_gold)]) == OK
    before = Calibration.read(path).before
    assert f"before calibration   expected error {before.ece.value:.3f}, Brier score {before.brier.value:.3f}" in (
        capsys.readouterr().out
    )
    assert record(with_gold)["quality"]["uncalibrated"]["brier"] == pytest.approx(before.brier.value)
    page = tmp_path / "page.html"
    assert cli.main(["report", str(with_gold), "--html", str(page)]) == OK
    text = page.read_text()
    assert "before calibration" in text
    assert f"temperature, of {ROWS - 1} gold pairs" in text
    assert text.count("Reliability diagram") == 2


def test_rows_in_memory(run: Path, tmp_path: Path) -> None:
    """Catches labels from Python that are not those of a file, or are calibrated for any judge."""
    path = str(calibrated(run))
    rows = [json.loads(line) for line in (tmp_path / "pairs-0.jsonl").read_text().splitlines()]
    found = label(rows, cast(AnyJudge, FakeScorer()), calibration=path)
    assert cli.main(["aggregate", str(run), "--calibration", path, "--quiet"]) == OK
    assert found.to_arrow().to_pylist() == table(run)
    first: Any = found[0].label
    assert (first.p_a, first.verdict) == (table(run)[0]["p_a"], table(run)[0]["verdict"])
    with pytest.raises(InputError, match="for another judge"):
        label(rows, cast(AnyJudge, OtherModel()), calibration=path)


def test_a_server_compares_calibrated(tmp_path: Path) -> None:
    """Catches a server that gives what the judge says, and one that takes a calibration of another judge."""
    run = judged(tmp_path / "run", FakeJudge())
    path = str(calibrated(run))
    body = {"prompt": "Which?", "responses": ["this", "that", "other"]}
    with serving(FakeJudge(), method="rlaif") as client:
        plain = client("POST", "/compare", body).body["win_matrix"]
    with serving(FakeJudge(), method="rlaif", calibration=path) as client:
        found = client("POST", "/compare", body).body["win_matrix"]
    curve = Calibration.read(path)
    assert found == [[None if p is None else curve.at(p) for p in row] for row in plain]
    with (
        pytest.raises(PreftreeError, match=r"for another judge or template: options\.preamble"),
        serving(FakeJudge(), method="rlaif", calibration=path, preamble="base"),
    ):
        pass
    with (
        pytest.raises(PreftreeError, match="which method rlaif alone compares here"),
        serving(FakeJudge(), method="direct", calibration=path),
    ):
        pass


def test_rewards(run: Path) -> None:
    """Catches a row of one response that has no p_a to calibrate, and a pair's that is left as it is."""
    found = Calibration.read(str(calibrated(run)))
    pair = CalibratedLabel(RewardLabel("pair", (1.0, 0.0), (), 9), found)
    assert pair.p_a == found.at(probability(1.0))
    assert (pair.verdict, pair.values()["p_a_uncalibrated"]) == ("a", probability(1.0))
    alone = CalibratedLabel(RewardLabel("response", (1.0,), (), 9), found)
    assert (alone.p_a, alone.values()["p_a_uncalibrated"], alone.values()["reward"]) == (None, None, 1.0)


def test_methods_without_p_a(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a calibration that a method takes and has no use for."""
    path = str(calibrated(run))
    with pytest.raises(UsageError, match=r"--calibration is not for method ranking; it is for rlaif, salmon and"):
        open_method(LabelOptions(input="x", out="y", method="ranking", calibration=path))
    with pytest.raises(UsageError, match=r"--calibration is about p_a, .* which method reward does not give here"):
        make_method("reward", RewardOptions(under=(("honest",),), calibration=path))
    judged(tmp_path / "direct", FakeJudge(), method="direct")
    capsys.readouterr()
    command = ["export", str(tmp_path / "direct"), "--to", "trl-dpo", "--out", str(tmp_path / "x.jsonl")]
    assert cli.main([*command, "--calibration", path]) == FAILURE
    assert "--calibration is about p_a, which labels of method direct do not have here" in one_error(capsys)
    assert cli.main(["calibrate", str(tmp_path / "direct"), "--out", str(tmp_path / "c.json")]) == FAILURE
    assert "has no column p_a, the probability that A is better, which is what is calibrated" in one_error(capsys)
