"""Rewards of a trained reward model: one number a response, and under each set of principles if it follows any.

Nothing is asked and nothing is swapped. What the responses to a prompt share runs once, and so does all of a response
that comes before the principles.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.methods.reward_labels import Kind, RewardLabel
from preftree.labeling.methods.set_labels import SetsLabel, set_columns
from preftree.labeling.options.methods import RewardOptions
from preftree.labeling.principles.row_sets import NO_SETS, RowSets, chosen_sets
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Pair, RequestScores, Response, ResponseSet, RewardRequest, Sample


@dataclass(frozen=True)
class Reward:
    """The model is chosen with --model.

    sets: of principles; none for a model that follows none.
    """

    sets: RowSets = NO_SETS

    name: ClassVar[str] = "reward"
    takes: ClassVar[tuple[type[Sample], ...]] = (Response, Pair, ResponseSet)

    @property
    def columns(self) -> Mapping[str, ArrowType]:
        return self.filled(self.takes)

    def filled(self, kinds: Collection[type[Sample]]) -> Mapping[str, ArrowType]:
        """See `preftree.labeling.methods.base.FillsSome`."""
        found = RewardLabel.filled(kinds)
        return set_columns(found, are_drawn=self.sets.draw is not None) if self.sets else found

    def requests(self, sample: Sample) -> list[RewardRequest]:
        """Every response, each under every set in turn."""
        _, responses = _responses(sample)
        if not self.sets:
            return [RewardRequest(sample.prompt, text, title=title) for title, text in responses.items()]
        return [
            RewardRequest(sample.prompt, text, one.statements, f"{title}, {one.name}")
            for title, text in responses.items()
            for one in self.sets.of(sample)
        ]

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> RewardLabel | SetsLabel:
        """Raises InputError when a reward is not finite."""
        kind, _ = _responses(sample)
        if not self.sets:
            return _label(kind, scores)
        names = self.sets.names
        labels = tuple(_label(kind, scores[first :: len(names)]) for first in range(len(names)))
        return SetsLabel(names, labels, RewardLabel.COLUMNS, self.sets.drawn(sample))

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        by_set = map(_rewards, values["sets"] if self.sets else [values])
        return [f"reward {reward:+.6f}" for of_response in zip(*by_set, strict=True) for reward in of_response]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """A reward model does not explain."""
        return []

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return self.sets.record()


def _responses(sample: Sample) -> tuple[Kind, dict[str, str]]:
    """Those of a row by what they are called."""
    if isinstance(sample, Pair):
        return "pair", {"response A": sample.response_a, "response B": sample.response_b}
    if isinstance(sample, ResponseSet):
        return "set", {f"response {index}": text for index, text in enumerate(sample.responses)}
    assert isinstance(sample, Response)
    return "response", {"the response": sample.response}


def _label(kind: Kind, scores: Sequence[RequestScores]) -> RewardLabel:
    """An answer is the reward, and the normalised one where the model says what is normal."""
    found = [score.answers[0].finite() for score in scores]
    normalized = tuple(numbers[1] for numbers in found if len(numbers) > 1)
    return RewardLabel(
        kind, tuple(numbers[0] for numbers in found), normalized, sum(score.prompt_tokens for score in scores)
    )


def _rewards(values: Mapping[str, Any]) -> list[float]:
    single = (values.get(name) for name in ("reward", "reward_a", "reward_b"))
    return [reward for reward in (*single, *(values.get("rewards") or ())) if reward is not None]


def opened(options: RewardOptions, recorded: Mapping[str, Any] | None) -> Reward:
    """See `preftree.labeling.methods.registry.open_method`."""
    if recorded is not None:
        return Reward(RowSets.recorded(recorded))
    wants_sets = options.under or options.principles or options.add_principle or options.guard
    return Reward(chosen_sets(options)) if wants_sets else Reward()
