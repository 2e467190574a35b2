"""A set of principles for each row, drawn by weight, as SALMON trains a policy under its reward model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import UsageError
from preftree.labeling.principles.drawing import picks, uniforms
from preftree.labeling.principles.principle import Principle
from preftree.labeling.principles.sets import PrincipleSet
from preftree.labeling.terminal import count
from preftree.labeling.types import Sample


@dataclass(frozen=True)
class SetDraw:
    """How the principles of a row are drawn: a function of seed, row id and the row's tags.

    Attributes:
        principles: to draw from, in their order.
        number: how many.
        seed: of the draw.
        common: statements that every row has besides.
        boosts: by tag, the weight that a principle with this tag gains in a row with this tag.
        column: of a row, with its tag or a list of tags; a row without has none.
    """

    principles: tuple[Principle, ...]
    number: int
    seed: int
    common: PrincipleSet
    boosts: Mapping[str, float]
    column: str

    def __post_init__(self) -> None:
        """UsageError for a draw that cannot be, and for a boost without effect."""
        have = sum(principle.weight > 0 for principle in self.principles)
        if self.number > have:
            raise UsageError(f"--draw is {self.number:,}, and {count(have, 'principle')} can be drawn")
        tags = {tag for principle in self.principles for tag in principle.tags}
        for tag in self.boosts:
            if tag not in tags:
                known = f"their tags are {', '.join(sorted(tags))}" if tags else "they have no tags"
                raise UsageError(f"--boost {tag}: no principle to draw has this tag; {known}")

    @property
    def name(self) -> str:
        """What all rows' sets are called in labels."""
        return " + ".join(filter(None, (f"{self.number} of {len(self.principles)}", self.common.name)))

    def drawn(self, sample: Sample) -> tuple[Principle, ...]:
        """The principles of a row, in the order in which they were drawn."""
        tags = self.boosts.keys() & _tags(sample.extra.get(self.column))
        weights = [
            one.weight + sum(self.boosts[tag] for tag in sorted(tags & set(one.tags))) for one in self.principles
        ]
        numbers = uniforms(f"principles/{self.seed}/{sample.id}", self.number)
        return tuple(self.principles[index] for index in picks(weights, numbers))

    def set_of(self, sample: Sample) -> PrincipleSet:
        """Those of a row and the common ones."""
        drawn = self.drawn(sample)
        name = " + ".join(filter(None, (*(principle.name for principle in drawn), self.common.name)))
        return PrincipleSet(name, (*(principle.positive for principle in drawn), *self.common.statements))

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "principles": [principle.record() for principle in self.principles],
            "number": self.number,
            "seed": self.seed,
            "common": self.common.record(),
            "boosts": dict(self.boosts),
            "column": self.column,
        }

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> SetDraw:
        """The draw of a `record`."""
        common = PrincipleSet.recorded(record["common"])
        principles = tuple(map(Principle.recorded, record["principles"]))
        return cls(principles, record["number"], record["seed"], common, record["boosts"], record["column"])


def _tags(value: Any) -> set[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return {str(one) for one in values if one is not None}
