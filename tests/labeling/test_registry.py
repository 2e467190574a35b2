"""A method from outside: a file of its own, and an entry in the registry."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

import preftree as pt
from preftree.labeling.methods.registry import METHODS, Entry, open_method
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.types import PairLabel, RequestScores, Sample
from tests.models import SMALL_CONFIG, write_model


@dataclass(frozen=True)
class FirstOrder(Rlaif):
    """Half the price: A is always shown first."""

    def requests(self, sample: Sample) -> Any:
        return super().requests(sample)[:1]

    def aggregate(self, sample: Sample, scores: Any) -> PairLabel:
        (first,) = scores
        mirrored = RequestScores(
            tuple(answer._replace(logprob=answer.logprob[::-1]) for answer in first.answers), first.prompt_tokens
        )
        return super().aggregate(sample, (first, mirrored))


@pytest.fixture
def first_order(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("first_order")
    module.opened = lambda options, recorded: FirstOrder(load_template("general"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "first_order", module)
    monkeypatch.setitem(METHODS, "first-order", Entry("first_order"))


def test_a_method_is_one_file_and_one_entry(first_order: None, tmp_path: Any) -> None:
    judge = pt.Judge.load(str(write_model(tmp_path / "model", SMALL_CONFIG)))
    rows = [{"prompt": "Which?", "response_a": "This.", "response_b": "That."}]
    both, mine = (pt.label(rows, judge, name)[0].label for name in ("rlaif", "first-order"))
    assert isinstance(both, PairLabel)
    assert isinstance(mine, PairLabel)
    assert mine.p_a == mine.p_a_first == both.p_a_first
    with pytest.raises(pt.InputError, match="--scale is not for method first-order; it is for direct and principled"):
        open_method(JudgeOptions(input="", method="first-order", scale="1-5"))
