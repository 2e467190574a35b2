"""What a thousand pairs cost with one combination alone, planned without running it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from preftree.labeling.comparing.combinations import Combination, several
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.pipeline import windows
from preftree.labeling.runs.plan import JobTotals
from preftree.labeling.types import Pair

# Pairs that are planned: enough for a mean, few enough to be tokenised for every combination in no time.
_PLANNED = 200


class Cost(NamedTuple):
    """Of a thousand pairs, judged with one combination and nothing else.

    Attributes:
        prompt_tokens: of all prompts.
        unique_tokens: of them, those that go through the model.
        seconds: at the pace of the model's run on this machine; None where it had none.
    """

    prompt_tokens: float
    unique_tokens: float
    seconds: float | None


def pairs_to_plan(dataset: Dataset, rows: Any) -> list[Pair]:
    """The first pairs with gold."""
    pairs = (item for item in dataset.pick(rows) if isinstance(item, Pair) and item.gold in ("a", "b"))
    return list(islice(pairs, _PLANNED))


def cost_of(
    combination: Combination, pairs: Sequence[Pair], dataset: Dataset, judge: AnyJudge, rate: float | None
) -> Cost:
    """pairs: of `pairs_to_plan`. judge: one without weights will do. rate: unique tokens a second."""
    total = JobTotals(dataset.info, "")
    for window in windows(pairs, several((combination,)), judge):
        total.add(window, judge)
    scale = 1000 / max(1, total.rows - total.rejections.count)
    unique = total.unique_tokens * scale
    return Cost(total.prompt_tokens * scale, unique, unique / rate if rate else None)
