"""What figures mean for whoever uses labels: which warnings there are, and the way out that each names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from preftree.labeling import cli
from preftree.labeling.report.findings import findings

GOOD: dict[str, Any] = {
    "pairs": 200,
    "gold_pairs": 200,
    "agreement": 0.8,
    "agreement_interval": [0.74, 0.85],
    "mean_label_mass": 0.9,
    "position_bias": 0.1,
    "prefers_first": 0.5,
}
JUDGE: dict[str, Any] = {"scorer": {"model": "judges/large", "rendering": "chat"}}
KINDS = ["agreement", "label_mass", "position_bias"]


def found(figures: dict[str, Any], record: dict[str, Any] = JUDGE) -> dict[str, str]:
    """Texts by what they are about."""
    return {one.about: one.text for one in findings(figures, record)}


def test_good_labels_of_a_judge_have_no_warning() -> None:
    """Catches a warning that everybody learns to skip."""
    assert found(GOOD) == {}
    assert found({}) == {}


@pytest.mark.parametrize("scorer", [{"model": "embedded"}, {"model": "panel of a, b", "judges": ["large", "embedded"]}])
def test_the_toy_is_named_as_one(scorer: dict[str, Any]) -> None:
    """Catches labels of the default model, alone or in a panel, that look as if a judge had made them."""
    text = found(GOOD, {"scorer": scorer})["judge"]
    assert "a toy of 135 million parameters" in text
    assert "name a judge with --model" in text


def test_agreement_that_may_be_chance() -> None:
    """Catches 53% of 15 pairs that read as better than chance, and gold that is turned round."""
    text = found(GOOD | {"gold_pairs": 15, "agreement": 0.53, "agreement_interval": [0.3, 0.75]})["agreement"]
    assert text.startswith("agreement with gold may be chance: 53% of 15 pairs, and its 95% interval contains 50%")
    worse = found(GOOD | {"agreement": 0.2, "agreement_interval": [0.15, 0.26]})["agreement"]
    assert "worse than chance (20% of 200 pairs)" in worse
    assert "invert: true" in worse


@pytest.mark.parametrize(("rendering", "other"), [("chat", "--plain"), ("plain", "--chat")])
def test_little_label_mass_has_a_way_out(rendering: str, other: str) -> None:
    """Catches a mass of 0.308 that is printed and left alone, and the advice to do what was done."""
    record = {"scorer": {"model": "large", "rendering": rendering}}
    text = found(GOOD | {"mean_label_mass": 0.308}, record)["label_mass"]
    assert "only 31% of the probability" in text
    assert f"try {other}, another --template or another --model" in text


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"position_bias": 0.95, "prefers_first": 1.0}, "190 of 200 pairs prefer the first response"),
        ({"position_bias": 0.3, "prefers_first": 0.0}, "60 of 200 pairs prefer the second response"),
    ],
)
def test_position_bias_has_a_way_out(figures: dict[str, Any], words: str) -> None:
    """Catches a bias of 95% that is exported without a word, and advice that `preftree export` does not take."""
    text = found(GOOD | figures)["position_bias"]
    assert text.startswith(words)
    assert text.endswith("`preftree export --drop-inconsistent`")
    assert "--drop-inconsistent" not in found(GOOD | figures | {"principles": [{}]})["position_bias"]


def test_an_inverted_template_is_explained() -> None:
    """Catches "0 the first, 40 the second" of a judge that always says "1"."""
    template = {"name": "harmlessness", "invert": True, "labels": ["1", "2"]}
    for method in ({"template": template}, {"pair": {"template": template}}):
        text = found(GOOD, JUDGE | {"method": method})["invert"]
        assert "a judge that answers '1' prefers the response shown second" in text


def test_sets_of_principles_have_warnings() -> None:
    """Catches `preftree score`, whose figures are by set, without a warning; and one line for each set."""
    bad = GOOD | {"agreement_interval": [0.4, 0.9], "mean_label_mass": 0.3, "position_bias": 0.9, "prefers_first": 1.0}
    sets = [{"name": f"set {k}", "pairs": bad, "responses": None} for k in range(3)]
    assert found({"sets": [{"name": "good", "pairs": GOOD}]}) == {}
    assert list(texts := found({"sets": sets})) == KINDS
    assert all(text.startswith("under set 0 (and 2 other sets), ") for text in texts.values())
    alone = found({"sets": [{"name": "short", "pairs": None, "responses": {"mean_label_mass": 0.2}}]})
    assert alone["label_mass"].startswith("under short, the labels have only 20%")


def test_labels_from_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a finding that needs a run.json."""
    path = tmp_path / "labels.parquet"
    parquet.write_table(pa.table({"verdict": ["a", "b"] * 10, "gold": ["a", "a"] * 10}), path)
    assert cli.main(["report", str(path), "--json"]) == 0
    assert [one["about"] for one in json.loads(capsys.readouterr().out)["findings"]] == ["agreement"]
