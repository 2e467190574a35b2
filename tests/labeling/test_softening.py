"""Soft labels in exports: as a column, and as copies whose mean hard loss is the soft loss."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")

from preftree.labeling.export.comparison import Comparison  # noqa: E402
from preftree.labeling.export.formats import FORMATS  # noqa: E402
from preftree.labeling.export.softening import Softening  # noqa: E402
from preftree.labeling.export.write import write_export  # noqa: E402
from preftree.labeling.options.export import ExportOptions  # noqa: E402
from preftree.labeling.types import PairLabel  # noqa: E402
from tests.labeling.fakes import row  # noqa: E402
from tests.labeling.labelled_run import labelled_run  # noqa: E402

# Their products with 8 are whole numbers: nothing is rounded.
EIGHTHS = (0.875, 0.25, 0.5, 1.0, 0.0, 0.625)


def run_of(directory: Path, probabilities: Sequence[float]) -> Path:
    """A run whose pair n has the responses "a n" and "b n" and this probability that A is better."""
    rows = [row(id=str(n), response_a=f"a {n}", response_b=f"b {n}") for n in range(len(probabilities))]
    return labelled_run(directory / "run", "rlaif", rows, [PairLabel(p, p, p, 0.9, 0.9, 1) for p in probabilities])


def export(run: Path, to: str, **options: Any) -> tuple[list[dict[str, Any]], str]:
    """The rows, and what is printed."""
    out = run.parent / "out.jsonl"
    lines = write_export(ExportOptions(run=str(run), to=to, out=str(out), overwrite=True, **options))
    return [json.loads(line) for line in out.read_text().splitlines()], "\n".join(lines)


def text(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"]


def log_sigmoid(difference: float) -> float:
    return -math.log1p(math.exp(-difference))


def compared(n: int, p_a: float) -> Comparison:
    verdict = "a" if p_a > 0.5 else "b" if p_a < 0.5 else "tie"
    return Comparison(str(n), (), "a", "b", verdict, p_a=p_a)  # type: ignore[arg-type]


def with_a(softening: Softening, p_a: float) -> int:
    return sum(copy.chosen == "a" for copy in softening.of(compared(0, p_a)))


def test_soft_labels_keep_ties(tmp_path: Path) -> None:
    """Catches the probability of A given for that of B, and a tie dropped or turned round."""
    rows, _ = export(run_of(tmp_path, EIGHTHS), "trl-soft")
    found = [(text(one["chosen"]), text(one["rejected"]), one["p_chosen"]) for one in rows]
    assert found == [
        ("a 0", "b 0", 0.875),
        ("b 1", "a 1", 0.75),
        ("a 2", "b 2", 0.5),
        ("a 3", "b 3", 1.0),
        ("b 4", "a 4", 1.0),
        ("a 5", "b 5", 0.625),
    ]
    assert all(one["chosen"][:-1] == one["rejected"][:-1] for one in rows)
    rows, _ = export(run_of(tmp_path, EIGHTHS), "trl-soft", ties="drop", min_confidence=0.8)
    assert [one["id"] for one in rows] == ["0", "3", "4"]


@pytest.mark.parametrize("to", ["trl-reward", "openrlhf", "trl-dpo", "ultrafeedback"])
def test_the_mean_hard_loss_over_the_copies_is_the_soft_loss(tmp_path: Path, to: str) -> None:
    """Catches copies with the wrong side chosen, a share of them that is not p, ties left out, and a margin left in."""
    rows, _ = export(run_of(tmp_path, EIGHTHS), to, soften=8)
    rewards = {f"{side} {n}": math.sin(7 * n + len(EIGHTHS) * (side == "a")) for n in range(6) for side in "ab"}
    hard = [-log_sigmoid(rewards[text(one["chosen"])] - rewards[text(one["rejected"])]) for one in rows]
    deltas = [rewards[f"a {n}"] - rewards[f"b {n}"] for n in range(6)]
    soft = [-p * log_sigmoid(d) - (1 - p) * log_sigmoid(-d) for p, d in zip(EIGHTHS, deltas, strict=True)]
    assert math.fsum(hard) / len(hard) == pytest.approx(math.fsum(soft) / len(soft), abs=1e-12)
    assert len(rows) == 8 * len(EIGHTHS)
    assert len({one["id"] for one in rows}) == len(rows)
    assert not any("margin" in one for one in rows)


@settings(max_examples=60, deadline=None)
@given(
    probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    copies=st.integers(2, 1000),
    seed=st.integers(0, 10**6),
)
def test_every_sum_of_copies_is_within_one_of_its_soft_labels(
    probabilities: list[float], copies: int, seed: int
) -> None:
    """Catches errors of rounding that add up, and a share that is off by 1/K or outside of 0 and 1."""
    softening, total, expected = Softening(copies, seed), 0, Fraction(0)
    for p_a in probabilities:
        found, exact = with_a(softening, p_a), Fraction(p_a) * copies
        assert abs(found - exact) < 1
        assert 0 <= found <= copies
        total, expected = total + found, expected + exact
        assert abs(total - expected) < 1


def test_the_offset_is_uniform_over_seeds() -> None:
    """Catches a seed without effect, and one that prefers a side: of 0.9 in 2 copies, four of five seeds give both."""
    found = Counter(with_a(Softening(2, seed), 0.9) for seed in range(2000))
    assert set(found) == {1, 2}
    assert found[2] / 2000 == pytest.approx(0.8, abs=0.04)


def test_pairs_are_selected_before_they_are_copied(tmp_path: Path) -> None:
    """Catches a filter on copies, ids that repeat, a count of one thing for the other, and chance without a seed."""
    run = run_of(tmp_path, (0.9, 0.4, 0.5))
    rows, lines = export(run, "trl-dpo", soften=10)
    assert [one["id"] for one in rows] == [f"{n}#{copy}" for n in range(3) for copy in range(1, 11)]
    assert "3 pairs as trl-dpo, 30 rows" in lines
    assert rows == export(run, "trl-dpo", soften=10)[0]
    rows, lines = export(run, "kto", soften=10, ties="drop", min_confidence=0.7)
    assert "1 pair as kto, 20 rows" in lines
    assert "1 pair: tie" in lines
    assert Counter((text(one["completion"]), one["label"]) for one in rows) == {
        ("a 0", True): 9,
        ("b 0", False): 9,
        ("a 0", False): 1,
        ("b 0", True): 1,
    }


def test_copies_in_a_parquet_file(tmp_path: Path) -> None:
    """Catches columns of the file that its rows do not have: a margin of copies is in neither."""
    from pyarrow import parquet

    out = tmp_path / "out.parquet"
    write_export(ExportOptions(run=str(run_of(tmp_path, EIGHTHS)), to="openrlhf", out=str(out), soften=4))
    table = parquet.read_table(out)
    assert table.column_names == list(FORMATS["trl-reward"].columns)
    assert len(table) == 4 * len(EIGHTHS)
