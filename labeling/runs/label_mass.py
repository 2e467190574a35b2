"""A run whose judge wants to say something else than a label ends early."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from preftree.engine.errors import ModelError
from preftree.labeling.pipeline import Labelled

# Rows that decide. Fewer may be odd ones; these cost a run little.
WATCHED = 100
# A judge that answers puts most of the probability on the labels: the embedded model, far too small to be one, 0.7 to
# 0.9. One that would write its thoughts, a heading or a line feed first leaves them less than a thousandth.
LEAST = 0.01


class LabelMassWatch:
    """Looks at the first rows that a process labels."""

    def __init__(self) -> None:
        self._masses: list[float] = []

    def add(self, window: Iterable[Labelled]) -> None:
        """ModelError once enough rows are there, if their labels had almost no probability."""
        if len(self._masses) >= WATCHED:
            return
        self._masses += [max(scores.label_mass for scores in labelled.scores) for labelled in window if labelled.scores]
        if len(self._masses) >= WATCHED and (mass := median(self._masses)) < LEAST:
            raise ModelError(
                f"the labels of the first {len(self._masses)} rows have almost no probability ({mass:.1g} in the "
                "median): the model would rather answer something else, such as its thoughts; use --plain or --chat, "
                "another template or another model, or continue with --allow-low-mass; what was answered is kept"
            )
