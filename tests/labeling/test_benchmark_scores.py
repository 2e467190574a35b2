"""Scores of benchmarks of judges are those of the benchmarks' own code.

Expected values are what that code computed of the answers in benchmark_answers.py, run by hand:
allenai/reward-bench 05a9005 (rewardbench/utils.py, rewardbench/constants.py), ScalerLab/JudgeBench e2c52c2
(utils/metrics.py), THU-KEG/RM-Bench 73c52d7 (scripts/utils.py), princeton-nlp/LLMBar 900616b
(LLMEvaluator/evaluate.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from preftree.labeling import cli
from preftree.labeling.commands.table import OK
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import LABELS, LabelWriter
from preftree.labeling.methods.ranking_labels import RankingLabel
from preftree.labeling.methods.reward_labels import RewardLabel
from preftree.labeling.options.reading import ReportOptions
from preftree.labeling.report.figures import figures_of
from preftree.labeling.runs import run
from preftree.labeling.runs.report import report_lines, write_html
from preftree.labeling.types import Label, PairLabel
from tests.labeling import benchmark_answers as answers
from tests.labeling.commands import unwrapped
from tests.labeling.fake_engine import FakeEngine, fake_scorer
from tests.labeling.fakes import write_rows
from tests.labeling.html_page import HtmlPage


def labels_of(paths: Path | Sequence[Path], labels: Iterable[Label], out: Path) -> Path:
    """A labels.parquet of all rows of these files."""
    dataset, found = Dataset.open(paths if isinstance(paths, Path) else list(paths)), list(labels)
    with LabelWriter(out, dataset.info, type(found[0]).COLUMNS) as writer:  # type: ignore[attr-defined]
        writer.add(list(zip(dataset.read(), found, strict=True)))
        writer.publish()
    return out / LABELS


def soft(first: float, second: float) -> PairLabel:
    return PairLabel((first + second) / 2, first, second, 0.9, 0.9, 10)


def rewards(kind: Any, *numbers: float) -> RewardLabel:
    return RewardLabel(kind, numbers, (), 10)


def score(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = figures_of(path).figures()["benchmark"]
    return found


def by_part(found: dict[str, Any], measure: str) -> dict[str, float]:
    return {part["name"]: part[measure] for part in found["parts"]}


def judge_bench(tmp_path: Path) -> Path:
    path = write_rows(tmp_path / "in.jsonl", answers.JUDGE_BENCH)
    return labels_of(path, [soft(first, second) for _, _, first, second in answers.GAMES], tmp_path)


def test_judge_bench(tmp_path: Path) -> None:
    """Catches both orders averaged, a tie that does not let the other game decide, sources that stay apart."""
    found = score(judge_bench(tmp_path))
    assert found["name"] == "JudgeBench"
    assert by_part(found, "accuracy") == {
        "mmlu-pro": 0.5,
        "livebench-reasoning": 0.5,
        "livebench-math": 0.0,
        "livecodebench": 0.0,
    }
    assert found["scores"]["overall"] == 0.375
    assert found["scores"]["inconsistent"] == 4 / 8


def test_judge_bench_as_a_single_game(tmp_path: Path) -> None:
    """Catches rewards, which have no order, counted as if both orders were missing."""
    path = write_rows(tmp_path / "in.jsonl", answers.JUDGE_BENCH)
    labels = [rewards("pair", first, 0.5) for _, _, first, _ in answers.GAMES]
    found = score(labels_of(path, labels, tmp_path))
    assert found["scores"] == {"overall": 0.625, "inconsistent": 0.0}
    assert by_part(found, "accuracy")["mmlu-pro"] == 0.75


def test_llmbar(tmp_path: Path) -> None:
    """Catches ties counted half, and subsets weighed by their sizes."""
    paths = []
    for folder in dict.fromkeys(folder for folder, *_ in answers.OUTPUTS):
        directory = tmp_path / "LLMBar" / folder
        directory.mkdir(parents=True)
        (directory / "dataset.json").write_text(json.dumps(answers.llmbar(folder)))
        paths.append(directory / "dataset.json")
    found = score(labels_of(paths, [soft(first, second) for _, _, first, second in answers.OUTPUTS], tmp_path))
    assert found["scores"] == {"natural": 0.5, "adversarial": 0.5}
    agreement = {"Natural": 2 / 3, "Adversarial_Neighbor": 1.0, "Adversarial_Manual": 0.0}
    assert by_part(found, "positional agreement") == pytest.approx(agreement)
    both = {"Natural": 1 / 3, "Adversarial_Neighbor": 0.5, "Adversarial_Manual": 0.0}
    assert by_part(found, "both right") == pytest.approx(both)
    assert found["missing"] == ["Adversarial_GPTInst", "Adversarial_GPTOut"]


def rm_bench(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    labels = [rewards("pair", one, other) for _, better, worse in answers.STYLED for one in better for other in worse]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    return labels_of(tmp_path / "in.json", labels, tmp_path)


def test_rm_bench(tmp_path: Path) -> None:
    """Catches easy and hard exchanged, ties counted half, safety's two halves apart, domains weighed by their sizes."""
    found = score(rm_bench(tmp_path, answers.RM_BENCH))
    assert found["scores"] == pytest.approx(
        {
            "average": 0.4907407407407407,
            "easy": 0.625,
            "normal": 0.48611111111111105,
            "hard": 0.3611111111111111,
        }
    )
    averages = {"chat": 1 / 3, "math": 2 / 3, "code": 1 / 3, "safety": 0.6296296296296297}
    assert by_part(found, "average") == pytest.approx(averages)
    assert by_part(found, "hard") == pytest.approx({"chat": 0.0, "math": 2 / 3, "code": 1 / 3, "safety": 4 / 9})
    assert by_part(found, "easy") == pytest.approx({"chat": 0.5, "math": 1.0, "code": 1 / 3, "safety": 2 / 3})
    assert found["matrix"]["chat"] == [[0.5, 0.0, 0.0], [0.5, 0.5, 0.0], [0.5, 0.5, 0.5]]


def test_rm_bench_without_domains(tmp_path: Path) -> None:
    """Catches the files of single domains, which do not name it, left without a score."""
    rows = [{name: value for name, value in row.items() if name != "domain"} for row in answers.RM_BENCH]
    found = score(rm_bench(tmp_path, rows))
    assert by_part(found, "rows") == {"all prompts": 63}
    assert found["missing"] == []
    assert found["scores"]["easy"] == pytest.approx(13 / 21)


def reward_bench_2(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", answers.REWARD_BENCH_2)


def test_reward_bench_2(tmp_path: Path) -> None:
    """Catches shared best scores taken for right, Ties counted as best of n, references matched with other prompts."""
    labels = [rewards("set", *scores) for *_, scores in answers.BEST_OF]
    found = score(labels_of(reward_bench_2(tmp_path), labels, tmp_path))
    subsets = {"Factuality": 2 / 3, "Precise IF": 0.0, "Math": 0.75, "Ties": 0.6129160904718132}
    assert by_part(found, "accuracy") == pytest.approx(subsets)
    assert found["scores"]["average"] == pytest.approx(sum(subsets.values()) / 4)
    assert found["missing"] == ["Safety", "Focus"]
    assert by_part(found, "rows")["Ties"] == 9


def test_reward_bench_2_by_ranking(tmp_path: Path) -> None:
    """Catches strengths that are not taken as scores, and fits that differ by rounding taken for an order."""
    equal = soft(0.5, 0.5)
    labels = []
    for *_, scores in answers.BEST_OF:
        pairs = tuple((i, j, equal) for i in range(len(scores)) for j in range(i + 1, len(scores)))
        labels.append(RankingLabel(pairs, tuple(one + 1e-12 * place for place, one in enumerate(scores)), 10))
    found = score(labels_of(reward_bench_2(tmp_path), labels, tmp_path))
    assert by_part(found, "accuracy")["Factuality"] == pytest.approx(2 / 3)
    assert by_part(found, "accuracy")["Math"] == 0.75


def test_ties_without_references(tmp_path: Path) -> None:
    """Catches a score made up where no prompt is there both ways, and an average that counts it as nothing."""
    rows = [row for row in answers.REWARD_BENCH_2 if not row["id"].startswith("ref")]
    labels = [rewards("set", *scores) for identity, *_, scores in answers.BEST_OF if not identity.startswith("ref")]
    found = score(labels_of(write_rows(tmp_path / "in.jsonl", rows), labels, tmp_path))
    assert by_part(found, "accuracy")["Ties"] is None
    assert found["scores"]["average"] == pytest.approx((2 / 3 + 0.75) / 3)


def test_reward_bench(tmp_path: Path) -> None:
    """Catches subsets weighed by the rows at hand instead of their published sizes."""
    path = write_rows(tmp_path / "in.jsonl", answers.REWARD_BENCH)
    labels = [rewards("pair", chosen, rejected) for _, chosen, rejected in answers.SECTIONED]
    found = score(labels_of(path, labels, tmp_path))
    sections = {
        "Chat": 0.6428571428571429,
        "Chat Hard": 0.3197278911564626,
        "Safety": 0.35233160621761656,
        "Reasoning": 0.875,
    }
    assert found["scores"] == pytest.approx({"average": sum(sections.values()) / 4, **sections})


def test_subsets_that_are_no_benchmark(tmp_path: Path) -> None:
    """Catches a score shown for a column that happens to be called `subset`."""
    rows = [{"prompt": "Why?", "chosen": "good", "rejected": "bad", "subset": name} for name in ("easy", "hard")]
    path = labels_of(write_rows(tmp_path / "in.jsonl", rows), [soft(0.9, 0.9)] * 2, tmp_path)
    assert "benchmark" not in figures_of(path).figures()


def test_the_report_shows_it(tmp_path: Path) -> None:
    """Catches a score that is in the JSON only, or without what it lacks."""
    labels = judge_bench(tmp_path)
    [text] = report_lines(ReportOptions(labels=str(labels)))
    assert "JudgeBench overall 37.5%, inconsistent 50.0%" in unwrapped(text)
    assert "livecodebench        1 row: accuracy 0.0%, inconsistent 100.0%" in text
    out = tmp_path / "page.html"
    write_html(ReportOptions(labels=str(labels), html=str(out)), out)
    page = HtmlPage(out.read_text(encoding="utf-8"))
    assert "JudgeBench" in page.headings
    assert page.cells("mmlu-pro") == ["4", "50.0%", "50.0%"]


def test_a_run_over_split_rows(small_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches pairs of one row that are counted as one when a run grows, is exported, or has its labels made again."""
    monkeypatch.setattr(run, "load_judge", lambda *_, weights=True: fake_scorer(small_model, FakeEngine(), 200))
    path, out = write_rows(tmp_path / "in.jsonl", answers.RM_BENCH), tmp_path / "run"
    label = ["label", str(path), "--model", small_model, "--out", str(out)]
    assert cli.main([*label, "--limit", "13"]) == OK
    assert figures_of(out / LABELS).rows == 13
    assert cli.main(label) == OK
    rows = parquet.read_table(out / LABELS).to_pylist()
    assert [row["id"] for row in rows[8:10]] == [
        "chat/0/detailed_markdown/detailed_markdown",
        "chat/1/concise/concise",
    ]
    assert {row["gold"] for row in rows} == {"a"}
    assert by_part(score(out / LABELS), "rows") == {"chat": 18, "math": 9, "code": 9, "safety": 27}
    exported = tmp_path / "pairs.jsonl"
    assert cli.main(["export", str(out), "--to", "trl-dpo", "--out", str(exported)]) == OK
    texts = {text for row in answers.RM_BENCH for text in (*row["chosen"], *row["rejected"])}
    assert {json.loads(line)["chosen"][0]["content"] for line in exported.read_text().splitlines()} <= texts
