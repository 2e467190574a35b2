"""How easily a judge is moved: what each probe did to its labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import column, flattened, known, probabilities
from preftree.labeling.report.pairs import PairFigures
from preftree.labeling.report.probe_tally import MOVED, ProbeTally
from preftree.labeling.report.table import Table
from preftree.labeling.terminal import one_line

FIELDS = ("probe", "kind", "response", "p_before", "p_after")
_HEAD = ("probe", "shift", "moved", "flips", "lost, then won")
_WORST_SHOWN = 5


class ProbeFigures:
    """Running figures of the pairs as they are, and of each probe."""

    def __init__(self) -> None:
        self._pairs = PairFigures()
        self._probes: dict[str, ProbeTally] = {}

    @property
    def gold(self) -> Agreement:
        """Of the pairs as they are."""
        return self._pairs.gold

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        self._pairs.add(batch)
        rows, entries = flattened(column(batch, "probes"))
        before, after = (probabilities(column(entries, name), name) for name in ("p_before", "p_after"))
        probe, kind, response = (column(entries, name).cast("string").to_pylist() for name in FIELDS[:3])
        ids = column(batch, "id")
        names = [str(row) for row in range(len(batch))] if ids is None else list(map(str, ids.to_pylist()))
        of_probe: dict[str, list[int]] = {}
        for place in np.flatnonzero(known(before, after)).tolist():
            of_probe.setdefault(str(probe[place]), []).append(place)
        for name, places in of_probe.items():
            tally = self._probes.setdefault(name, ProbeTally(str(kind[places[0]])))
            mine = rows[places]
            named = ([names[row] for row in mine.tolist()], [response[place] for place in places])
            tally.add(mine, before[places], after[places], named)

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        probes = [{"name": name, **tally.figures()} for name, tally in self._probes.items()]
        return {**self._pairs.figures(), "probes": probes}

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal."""
        if not self._probes:
            return self._pairs.lines()
        table = Table(tuple(_cells(name, tally) for name, tally in self._probes.items()), _HEAD)
        lines = [("probes", line) for line in table.lines()]
        about = f"mean change of the probed response's probability; moved: by over {MOVED}; intervals are of 95%"
        return [*self._pairs.lines(), *lines, ("shift", about), *self._worst()]

    def briefly(self) -> list[str]:
        """Of the pairs as they are, on one line."""
        return self._pairs.briefly()

    def _worst(self) -> Iterator[tuple[str, str]]:
        found = [(one.size, name, one) for name, tally in self._probes.items() for one in tally.worst]
        for _, name, one in sorted(found, key=lambda entry: -entry[0])[:_WORST_SHOWN]:
            response = f", response {one.response.upper()}" if one.response else ""
            yield "moved most", f"{one_line(one.id)}{response}: {name}, from {one.before:.3f} to {one.after:.3f}"


def _cells(name: str, tally: ProbeTally) -> tuple[str, ...]:
    found = tally.figures()
    won = _percent(found["won_share"], found["won_interval"]) if found["lost"] else "–"
    flips = _percent(found["flipped"], found["flipped_interval"])
    return one_line(name), f"{found['mean_shift']:+.3f}", f"{found['moved']:.0%}", flips, won


def _percent(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.0%} ({100 * interval[0]:.0f}-{100 * interval[1]:.0f}%)"
