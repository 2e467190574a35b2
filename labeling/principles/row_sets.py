"""Which sets of principles a row is scored under: the same for all rows, or one that is drawn for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import UsageError
from preftree.labeling.options.methods import SetsOptions
from preftree.labeling.principles.set_draw import SetDraw
from preftree.labeling.principles.sets import GUARDS, PrincipleSet, common_set, load_principles, principle_sets
from preftree.labeling.types import Sample


@dataclass(frozen=True)
class RowSets:
    """Sets by row.

    Attributes:
        fixed: of all rows, with different names; none where they are drawn.
        draw: of the set of each row.
    """

    fixed: tuple[PrincipleSet, ...] = ()
    draw: SetDraw | None = None

    def __bool__(self) -> bool:
        return bool(self.fixed) or self.draw is not None

    @property
    def names(self) -> tuple[str, ...]:
        """What the sets of every row are called in labels."""
        return (self.draw.name,) if self.draw else tuple(one.name for one in self.fixed)

    def of(self, sample: Sample) -> tuple[PrincipleSet, ...]:
        """The sets of a row, one for each of `names`."""
        return (self.draw.set_of(sample),) if self.draw else self.fixed

    def drawn(self, sample: Sample) -> tuple[str, ...] | None:
        """Names of the principles that were drawn for a row; None where all rows have the same sets."""
        return tuple(principle.name for principle in self.draw.drawn(sample)) if self.draw else None

    @property
    def tag_column(self) -> str | None:
        """The column of a row that decides how its principles are drawn."""
        return self.draw.column if self.draw and self.draw.boosts else None

    def record(self) -> dict[str, Any]:
        """For run.json. draw: only where sets are drawn."""
        draw = {"draw": self.draw.record()} if self.draw else {}
        return {"sets": [one.record() for one in self.fixed], **draw}

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> RowSets:
        """From a `record`."""
        draw = SetDraw.recorded(record["draw"]) if "draw" in record else None
        return cls(tuple(map(PrincipleSet.recorded, record["sets"])), draw)


NO_SETS = RowSets()


def chosen_sets(options: SetsOptions) -> RowSets:
    """Those of `options`; a set that names nothing is all principles of a file. Raises InputError and UsageError."""
    common = (*options.add_principle, *(GUARDS if options.guard else ()))
    if options.draw is None:
        return RowSets(principle_sets([(*given, *common) for given in options.under or [()]], options.principles))
    assert options.principles is not None
    shared = common_set(common, options.principles)
    pool = tuple(
        principle
        for principle in load_principles(options.principles)
        if not {principle.positive, principle.negative} & {*shared.statements}
    )
    boosts = {tag: float(weight) for tag, _, weight in (boost.rpartition("=") for boost in options.boost)}
    if len(boosts) < len(options.boost):
        raise UsageError("--boost names a tag twice; give each tag one weight")
    return RowSets(draw=SetDraw(pool, options.draw, options.draw_seed, shared, boosts, options.tag_column))
