"""How scores by rubrics are spread, criterion by criterion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preftree.engine.errors import InputError
from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import Floats, Mask, column, flattened, known, numbers, probabilities
from preftree.labeling.report.findings import LOW_MASS
from preftree.labeling.report.intervals import share
from preftree.labeling.report.pairs import gold_of
from preftree.labeling.report.scores import ENDS, ScoreFigures
from preftree.labeling.terminal import count, one_line

FIELDS = ("name", "weight", "p_yes", "label_mass")
WEIGHTED = "rubric_weighted"
MAX_CRITERIA = 200
_CRITERIA_SHOWN = 20
_NAME_SHOWN = 40


@dataclass
class _Entries:
    """Entries of the lists of a column, one after the other: the row of each, its name and its numbers."""

    row: NDArray[np.int64]
    name: Any
    weight: Floats
    p_yes: Floats
    label_mass: Floats

    @classmethod
    def of(cls, array: Any) -> _Entries:
        row, entries = flattened(array)
        p_yes = probabilities(column(entries, "p_yes"), "criteria.p_yes")
        found = [column(entries, name) for name in ("weight", "label_mass")]
        nothing = np.full(len(row), np.nan)
        weight, mass = (nothing if one is None else numbers(one, "criteria") for one in found)
        return cls(row, column(entries, "name").cast("string"), weight, p_yes, mass)


@dataclass
class CriterionFigures:
    """Running figures over the responses that were judged by one criterion.

    Attributes:
        judged: responses.
        met: those with P(yes) above 0.5.
        gold: over pairs, for the response that the criterion prefers: with the larger P(yes), or the smaller one where
            its weight is below 0.
    """

    judged: int = 0
    met: int = 0
    low_mass: int = 0
    gold: Agreement = field(default_factory=Agreement)
    _p_yes: float = 0.0
    _mass: float = 0.0
    _weights: set[float] = field(default_factory=set)

    def add(self, entries: _Entries, mask: Mask) -> None:
        """Those of `entries` under `mask`."""
        p_yes, mass = entries.p_yes[mask], entries.label_mass[mask]
        self.judged += len(p_yes)
        self.met += int(np.count_nonzero(p_yes > 0.5))
        self.low_mass += int(np.count_nonzero(mass < LOW_MASS))
        self._p_yes += float(np.nansum(p_yes))
        self._mass += float(np.nansum(mass))
        weights = entries.weight[mask]
        self._weights |= set(np.unique(weights[known(weights)])[:2].tolist())

    def figures(self) -> dict[str, Any]:
        """For run.json. weight: None where rubrics differ in it."""
        return {
            "weight": next(iter(self._weights)) if len(self._weights) == 1 else None,
            "responses": self.judged,
            "mean_p_yes": share(self._p_yes, self.judged),
            "met": share(self.met, self.judged),
            "mean_label_mass": share(self._mass, self.judged),
            "low_mass": self.low_mass,
            "gold_pairs": self.gold.pairs,
            "agreement": self.gold.share,
            "agreement_interval": self.gold.interval,
        }


class RubricFigures:
    """Running figures over responses that were scored by rubrics; a pair has two.

    The first criteria by name have figures each, all criteria have them together.
    """

    def __init__(self) -> None:
        self.scores = ScoreFigures()
        self.all = CriterionFigures()
        self._criteria: dict[str, CriterionFigures] = {}
        self._more = False
        self._unweighted = 0

    @property
    def gold(self) -> Agreement:
        """Of the verdicts."""
        return self.scores.gold

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        import pyarrow.compute as pc

        self.scores.add(batch)
        if (weighted := column(batch, WEIGHTED)) is not None:
            self._unweighted += int(pc.sum(pc.invert(weighted)).as_py() or 0)
        found = [None if one is None else _Entries.of(one) for one in (column(batch, f"criteria{end}") for end in ENDS)]
        for entries in found:
            if entries is not None:
                self._add(entries)
        if found[1] is not None and found[2] is not None and (gold := gold_of(batch)) is not None:
            self._add_gold(found[1], found[2], gold)

    def _add(self, entries: _Entries) -> None:
        self.all.add(entries, np.full(len(entries.row), True))
        for one, mask in self._by_name(entries):
            one.add(entries, mask)

    def _add_gold(self, a: _Entries, b: _Entries, gold: Any) -> None:
        if not np.array_equal(a.row, b.row) or not a.name.equals(b.name):
            raise InputError("columns criteria_a and criteria_b of a row need the same criteria in the same order")
        preferred = np.nan_to_num(np.sign((a.p_yes - b.p_yes) * np.sign(a.weight))).astype(np.int8)
        self.all.gold.add(preferred, gold[a.row])
        for one, mask in self._by_name(a):
            one.gold.add(preferred[mask], gold[a.row][mask])

    def _by_name(self, entries: _Entries) -> list[tuple[CriterionFigures, Mask]]:
        """The criteria of these entries that have figures each, and which entries are theirs."""
        encoded = entries.name.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        found = []
        for code, name in enumerate(encoded.dictionary.to_pylist()):
            if name not in self._criteria and len(self._criteria) == MAX_CRITERIA:
                self._more = True
                continue  # rubrics of single rows may have any number of names
            found.append((self._criteria.setdefault(name, CriterionFigures()), codes == code))
        return found

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count.

        criteria: by name, the first ones where they are many. all_criteria: of all of them together.
        """
        return self.scores.figures() | {
            "criteria": [{"name": name, **one.figures()} for name, one in self._criteria.items()],
            "all_criteria": self.all.figures() if self.all.judged else None,
            "unweighted": self._unweighted,
        }

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: name and text; figures that have nothing to stand on are left out."""
        lines = self.scores.lines()
        if self.all.judged:
            lines += [("criteria", text) for text in self._table()]
        if self._unweighted:
            lines.append(
                ("weights", f"none in the rubrics of {count(self._unweighted, 'row')}: each criterion counts 1")
            )
        return lines

    def briefly(self) -> list[str]:
        """The figures on one line; none where there are no responses."""
        return self.scores.briefly()

    def _table(self) -> list[str]:
        shown = [(one_line(name)[:_NAME_SHOWN], one) for name, one in [*self._criteria.items()][:_CRITERIA_SHOWN]]
        if len(self._criteria) > 1:
            shown.append(("all", self.all))
        width = max(len(name) for name, _ in shown)
        has_gold = self.all.gold.pairs > 0
        rows = [f"{'':<{width}}  weight  P(yes)    yes  label mass{'  with gold' * has_gold}"]
        for name, one in shown:
            of = one.figures()
            weight = "" if of["weight"] is None else f"{of['weight']:g}"
            agreed = "" if of["agreement"] is None else f"  {of['agreement']:>9.1%}"
            cells = f"{weight:>6}  {of['mean_p_yes']:>6.3f}  {of['met']:>5.0%}  {of['mean_label_mass']:>10.3f}"
            rows.append(f"{name:<{width}}  {cells}{agreed}")
        if (hidden := len(self._criteria) - _CRITERIA_SHOWN) > 0:
            others = f"; rubrics have over {MAX_CRITERIA} criteria, the others are in all alone" if self._more else ""
            rows.append(f"and {hidden:,} more in run.json{others}")
        return rows
