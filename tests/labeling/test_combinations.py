"""Combinations of `preftree compare`: what they share, and what is said of the best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preftree.labeling.comparing.combinations import combinations_of, several
from preftree.labeling.comparing.comparison import Comparison, compared
from preftree.labeling.comparing.costs import Cost
from preftree.labeling.comparing.judged import Judged
from preftree.labeling.comparing.table import table_lines
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.base import Method
from preftree.labeling.options.comparing import CompareOptions
from preftree.labeling.pipeline import windows
from preftree.labeling.prompts.catalogue import TEMPLATE_DIRECTORY
from preftree.labeling.report.arrays import A, B
from preftree.labeling.report.pairs import PairColumns
from preftree.labeling.runs.plan import JobTotals
from tests.processes import ROOT


@pytest.fixture(scope="module")
def embedded() -> Judge:
    """Encodes and plans, and cannot score."""
    return Judge.load("embedded", device="cpu", weights=False)


def planned(method: Method, judge: Judge) -> JobTotals:
    """Of the example pairs, without running a model."""
    dataset = Dataset.open(ROOT / "examples" / "pairs.jsonl")
    total = JobTotals(dataset.info, "")
    for window in windows(dataset.read(), method, judge):
        total.add(window, judge)
    return total


def chosen(*templates: str) -> CompareOptions:
    return CompareOptions(input=("in",), template=templates, preamble=("base", "detailed"), out="out")


def test_four_templates_share_what_they_can(embedded: Judge, tmp_path: Path) -> None:
    """Catches combinations that are run one after another: 4 templates x 2 preambles over 0.6 of the prompt tokens."""
    mine = tmp_path / "mine.txt"
    text = (TEMPLATE_DIRECTORY / "general.txt").read_text()
    question = "### Which response is better, 1 or 2?"
    assert question in text
    mine.write_text(text.replace(question, "### Which response follows the prompt more exactly, 1 or 2?"))
    made = combinations_of(chosen("general", "helpfulness", "harmlessness", str(mine))).made
    assert len(made) == 8
    together = planned(several(made), embedded)
    assert together.prompts == 26 * 16
    assert together.unique_tokens <= 0.6 * together.prompt_tokens


def test_beginnings_are_not_run_again_in_every_batch(embedded: Judge) -> None:
    """Catches windows of one batch, where every template's instructions are run for every few pairs."""
    made = combinations_of(chosen("general", "helpfulness", "harmlessness", "summarization")).made
    apart = sum(planned(several((one,)), embedded).unique_tokens for one in made)
    assert planned(several(made), embedded).unique_tokens <= 1.03 * apart


def test_a_clear_winner_is_said_to_be_one() -> None:
    """Catches a hedge that is always printed, differences the wrong way round, and a winner that is listed last."""
    gold = np.array([A, B] * 20, np.int8)
    sure = np.where(gold == A, 0.9, 0.1)
    made = combinations_of(CompareOptions(input=("in",), template=("general", "helpfulness"), out="out")).made
    ids = tuple(map(str, range(40)))
    said = {
        ("model", one): Judged(ids, PairColumns(p, np.sign(p - 0.5).astype(np.int8), p, p, gold=gold))
        for one, p in zip(made, (1 - sure, sure), strict=True)
    }
    costs = dict.fromkeys(said, Cost(2.0, 1.0, None))
    comparison = Comparison(compared(said, costs, 0), 2, 1, (), ())
    assert [one.combination.template for one in comparison.entries] == ["helpfulness", "general"]
    behind = comparison.entries[1].behind
    assert behind is not None
    assert (behind.mean, behind.low, behind.high) == (1, 1, 1)
    printed = " ".join(" ".join(table_lines(comparison)).split())
    assert "It is better than each of the others" in printed
    assert "cannot tell" not in printed
    assert "coin" not in printed
