"""Totals and rejections of a run, and the English of its summary."""

from __future__ import annotations

from pathlib import Path

from preftree.labeling.report.figures import Figures
from preftree.labeling.report.text import Rejections, RunSummary, reason_kind, render_summary
from preftree.labeling.types import PairLabel, Verdict
from tests.labeling.test_quality import label, quality_of


def summary_of(quality: Figures, rejections: Rejections | None = None, seconds: float = 2.0) -> RunSummary:
    return RunSummary(
        Path("d/labels.parquet"),
        Path("d/run.json"),
        "model, cpu, float32",
        "pair",
        quality.rows,
        quality,
        rejections or Rejections(),
        6000,
        2000,
        seconds,
    )


def test_nothing_labelled() -> None:
    """Catches divisions by zero, and NaN, which is no JSON, in run.json."""
    nothing = quality_of()
    assert not any(nothing.figures().values())
    summary = RunSummary(Path("l"), Path("r"), "m", "pair", 0, nothing, Rejections(), 0, 0, 0.0)
    assert summary.totals()["sharing"] is None
    assert summary.totals()["prompt_tokens_per_second"] is None
    assert "0 pairs labelled" in render_summary(summary)


def test_rejections_are_counted_by_kind() -> None:
    """Catches a dictionary that grows with the file when every reason has its own number."""
    rejections = Rejections()
    for line in range(1, 1001):
        rejections.add(f"line {line}", f"the prompt has {line:,} tokens, the model's context is 8,192")
    rejections.add(f"line {1001}", "broken JSON: Expecting value at column 9")
    assert rejections.kinds == {"the prompt has N tokens, the model's context is N": 1000, "broken JSON": 1}
    assert len(rejections.first) == 5
    for word in range(200):
        rejections.add(f"line {1}", "odd " + "x" * word)
    assert len(rejections.kinds) == 51
    assert sum(rejections.kinds.values()) == rejections.count == 1201
    said = rejections.by_kind()
    assert said.startswith(
        "the prompt has N tokens, the model's context is N (1,000); broken JSON (1); odd (1); odd x (1)"
    )
    assert said.endswith("; other reasons (194)")
    assert reason_kind("line too long: over 16 MB") == "line too long"


def test_summary_of_many() -> None:
    """Catches a figure that is computed and not shown, and rates that are swapped."""
    rejections = Rejections()
    for line in range(3, 10):
        rejections.add(f"line {line}", "blank text: \x1b[31mresponse_a")
    many: list[tuple[PairLabel, Verdict]] = [(label(0.9, 0.8), "a")] * 2000
    quality = quality_of((label(0.9, 0.2), "a"), (label(0.6, 0.4, (0.4, 0.9)), "b"), *many)
    text = " ".join(render_summary(summary_of(quality, rejections)).split())
    for part in (
        "2,002 pairs labelled, 7 rows rejected",
        "100.0% of 2,002 pairs (95% interval 99.8% to 100.0%); 1 tie counted half",
        "0.1%: 2 pairs of 2,002 prefer the same position in both orders (2 the first, 0 the second)",
        "1 pair under 0.5 in an order",
        "6,000 in prompts, 2,000 unique: sharing 3.00x",
        "3,000 prompt tokens/s, 1,000 unique tokens/s over 2.0 s in the engine",
        r"line 3: blank text: \x1b[31mresponse_a",
        "and 2 more rows; every reason is in the labels",
        "d/labels.parquet",
        "d/run.json",
    ):
        assert part in text
    assert "\x1b" not in text
    assert "line 8" not in text


def test_summary_of_one() -> None:
    """Catches "1 pairs" and "1 rows"."""
    rejections = Rejections()
    for line in range(6):
        rejections.add(f"line {line}", "blank text: prompt")
    text = render_summary(summary_of(quality_of((label(0.9, 0.8), "a")), rejections))
    assert "1 pair labelled, 6 rows rejected" in text
    assert "of 1 pair (95%" in text
    assert "and 1 more row;" in text
