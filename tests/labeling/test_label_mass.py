"""Runs whose judge gives the labels almost no probability."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from preftree.engine.errors import ModelError
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.run import run_label
from preftree.labeling.types import Answer, RequestScores
from tests.labeling.fakes import FakeEncoded, FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows


class Elsewhere(FakeScorer):
    """Wants to say something else than a label, to the prompts that `hears` finds."""

    def __init__(self, hears: Callable[[bytes], bool] = lambda prompt: True, mass: float = 1e-5) -> None:
        super().__init__(window_tokens=1200)
        self._hears, self._mass = hears, mass

    def score(self, encoded: Sequence[FakeEncoded]) -> list[RequestScores]:
        prompts = [bytes(entry.ids) for entry in encoded]
        found = zip(prompts, super().score(encoded), strict=True)
        return [
            scores._replace(answers=(Answer(scores.answers[0].logprob, self._mass),)) if self._hears(prompt) else scores
            for prompt, scores in found
        ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", [row(id=str(index), prompt=f"q{index}") for index in range(300)])


def run(source: Path, out: Path, judge: FakeScorer, **changes: Any) -> RunSummary:
    options = LabelOptions(input=str(source), out=str(out), quiet=True, **changes)
    return run_label(options, fake_scorer_factory(judge), open_fake_method)


def test_a_judge_that_says_something_else_is_stopped(source: Path, tmp_path: Path) -> None:
    """Catches hours of labels that mean nothing, as a model thinks first, and answers that are lost with the stop."""
    judge, out = Elsewhere(), tmp_path / "run"
    with pytest.raises(ModelError, match=r"almost no probability \(1e-05 in the median\).*--allow-low-mass") as error:
        run(source, out, judge)
    assert "\n" not in str(error.value)
    asked = sum(judge.calls)
    assert 200 <= asked < 400  # both orders of a hundred rows, and of what was left of their window
    resumed = Elsewhere()
    assert run(source, out, resumed, allow_low_mass=True).ok == 300
    assert sum(resumed.calls) == 600 - asked
    whole = tmp_path / "whole"
    run(source, whole, Elsewhere(), allow_low_mass=True)
    assert pq.read_table(out / "labels.parquet") == pq.read_table(whole / "labels.parquet")


@pytest.mark.parametrize(
    "judge",
    [FakeScorer(1200), Elsewhere(lambda prompt: b"q1" in prompt or b"q2" in prompt), Elsewhere(mass=0.02)],
    ids=["as usual", "odd rows", "little"],
)
def test_others_are_not(source: Path, tmp_path: Path, judge: FakeScorer) -> None:
    """Catches a run that is stopped for a few odd rows, or for a judge that is merely unsure of the format."""
    assert run(source, tmp_path / "run", judge).ok == 300


def test_few_rows_decide_nothing(tmp_path: Path) -> None:
    """Catches a small file that cannot be labelled."""
    source = write_rows(tmp_path / "few.jsonl", [row(id=str(index), prompt=f"q{index}") for index in range(99)])
    assert run(source, tmp_path / "run", Elsewhere()).ok == 99
