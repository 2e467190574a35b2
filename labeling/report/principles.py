"""How good labels of pairs are that principles judged one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preftree.engine.errors import InputError
from preftree.labeling.orders import orders_agree
from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import (
    TIE,
    A,
    B,
    Floats,
    column,
    flattened,
    known,
    numbers,
    sizes,
)
from preftree.labeling.report.findings import LOW_MASS
from preftree.labeling.report.intervals import share
from preftree.labeling.report.pairs import PairFigures, gold_of, pair_chars, pair_columns
from preftree.labeling.report.positions import verb
from preftree.labeling.report.spread import Spread
from preftree.labeling.report.win_rate import WinRate
from preftree.labeling.terminal import count, one_line

FIELDS = ("name", "s12", "s21", "label_mass_first", "label_mass_second")
_PRINCIPLES_SHOWN = 20
_OF_VERDICTS = ("calibration", "uncalibrated", "length_bias", "win_rate")


class PrincipleFigures:
    """Running figures over labelled pairs, of the verdicts and of each principle.

    A judgement is a principle's on a pair, in both orders. It keeps its position when both orders prefer the response
    shown in the same place, and is inconsistent then. Against gold a tie counts as half an agreement, and an
    inconsistent principle ties.
    """

    def __init__(self) -> None:
        self.win_rate = WinRate()
        self.verdicts = PairFigures(win_rate=self.win_rate)
        self._pairs = 0
        self._size(())

    def _size(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._agreements = [Agreement() for _ in names]
        counts = ("decided", "consistent", "kept_first", "kept_second", "low_mass", "massed")
        self._counts: dict[str, NDArray[np.int64]] = {name: np.zeros(len(names), np.int64) for name in counts}
        self._mass, self._gap = np.zeros(len(names)), np.zeros(len(names))
        self._scores = Spread(len(names))

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet. InputError unless principles are the same."""
        batch = batch.filter(column(batch, "principles").is_valid())
        if not batch.num_rows:
            return
        self.verdicts.add_columns(pair_columns(batch, gold_of(batch), pair_chars(batch)))
        table = self._by_name(column(batch, "principles"))
        s12, s21 = table["s12"], table["s21"]
        consistent = orders_agree(s12, s21, tie=0.0)
        self._pairs += len(s12)
        self._counts["consistent"] += consistent.sum(axis=0)
        self._counts["kept_first"] += ((s12 > 0) & (s21 < 0)).sum(axis=0)
        self._counts["kept_second"] += ((s12 < 0) & (s21 > 0)).sum(axis=0)
        self._gap += (s12 - s21).sum(axis=0)
        self._scores.add((s12 + s21) / 2)
        if "label_mass_first" in table and "label_mass_second" in table:
            masses = np.stack((table["label_mass_first"], table["label_mass_second"]))
            self._counts["low_mass"] += (masses.min(axis=0) < LOW_MASS).sum(axis=0)
            self._counts["massed"] += known(masses[0], masses[1]).sum(axis=0)
            self._mass += np.nansum(masses.mean(axis=0), axis=0)
        if (gold := gold_of(batch)) is not None:
            verdict = np.where(consistent, np.where(s12 > 0, A, B), TIE).astype(np.int8)
            for index, agreement in enumerate(self._agreements):
                agreement.add(verdict[:, index], gold)
        self._add_decided(column(batch, "decided_by"))

    def _add_decided(self, array: Any) -> None:
        import pyarrow as pa
        from pyarrow import compute

        if array is not None and self._names:
            places = compute.index_in(array.cast("string"), pa.array(self._names)).drop_null()
            self._counts["decided"] += np.bincount(places.to_numpy(), minlength=len(self._names))

    def _by_name(self, judged: Any) -> dict[str, Floats]:
        """Each field as [rows, principles], in the order of `_names`."""
        import pyarrow as pa
        from pyarrow import compute

        rows, entries = flattened(judged)
        names = column(entries, "name").cast("string")
        if not self._names:
            self._size(list(map(str, names.slice(0, int(sizes(judged)[0])).to_pylist())))
        size = len(self._names)
        places = compute.index_in(names, pa.array(self._names, "string")).fill_null(size)
        order = np.lexsort((places.to_numpy(), rows))
        expected = np.tile(np.arange(size), len(judged))
        if not size or len(order) != len(expected) or (places.to_numpy()[order] != expected).any():
            named = ", ".join(one_line(name) for name in self._names[:5])
            raise InputError(f"column principles: each row needs one entry for each principle of the first ({named})")
        table = {}
        for name in FIELDS[1:]:
            if (array := column(entries, name)) is not None:
                table[name] = numbers(array, f"principles.{name}")[order].reshape(-1, size)
                if name in ("s12", "s21") and not np.isfinite(table[name]).all():
                    raise InputError(f"column principles.{name} has entries that are no finite numbers")
        return table

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count.

        Scores, their variance and mean_gap (s12 - s21, above 0 for a lean to the response shown first) are in nats.
        correlations: of the scores of each two principles.
        """
        judgements, kept, massed = self._pairs * len(self._names), int(self._kept.sum()), self._counts["massed"].sum()
        of_verdicts = self.verdicts.figures()
        return {
            "pairs": self._pairs,
            "ties": self.verdicts.ties,
            "position_bias": share(kept, judgements),
            "prefers_first": share(self._counts["kept_first"].sum(), kept),
            "consistent": share(self._counts["consistent"].sum(), judgements),
            "mean_label_mass": share(self._mass.sum(), massed),
            "low_mass": int(self._counts["low_mass"].sum()),
            **{name: of_verdicts[name] for name in _OF_VERDICTS if name in of_verdicts},
            "principles": [self._of_principle(index) for index in range(len(self._names))],
            "correlations": [
                [None if math.isnan(value) else value for value in row] for row in self._scores.correlations().tolist()
            ],
        } | self.verdicts.gold.figures()

    def lines(self) -> list[tuple[str, str]]:
        if not self._pairs:
            return []
        lines = [("principles", line) for line in self._table()] + self._correlation_lines()
        lines += self.verdicts.gold.lines() + self.verdicts.reliability_lines()
        judgements, kept = self._pairs * len(self._names), int(self._kept.sum())
        text = f"{kept / judgements:.1%}: {count(kept, 'judgement')} of {judgements:,} {verb(kept)} the same position"
        first, second = int(self._counts["kept_first"].sum()), int(self._counts["kept_second"].sum())
        lines.append(("position bias", text + f" in both orders ({first:,} the first, {second:,} the second)"))
        if massed := int(self._counts["massed"].sum()):
            text = f"mean {self._mass.sum() / massed:.3f}"
            if low := int(self._counts["low_mass"].sum()):
                text += f"; {count(low, 'judgement')} under {LOW_MASS} in an order"
            lines.append(("label mass", text))
        if len(self._names) <= _PRINCIPLES_SHOWN:  # else the summary is long enough; run.json has it
            lines += self.win_rate.lines()
        if self.verdicts.ties:
            lines.append(("ties", count(self.verdicts.ties, "pair")))
        return lines

    def briefly(self) -> list[str]:
        """The figures on one line; none where there are no pairs."""
        if not self._pairs:
            return []
        figures = self.figures()
        consistent = self._counts["consistent"].sum() / (self._pairs * len(self._names))
        texts = [f"{consistent:.1%} of judgements consistent", f"position bias {figures['position_bias']:.1%}"]
        return [f"{count(self._pairs, 'pair')}: {', '.join(texts + self.win_rate.briefly())}"]

    @property
    def gold(self) -> Agreement:
        """Of the verdicts."""
        return self.verdicts.gold

    def _table(self) -> list[str]:
        shown = self._names[:_PRINCIPLES_SHOWN]
        width = max(len(one_line(name)) for name in shown)
        gold, decided = self.gold.pairs > 0, bool(self._counts["decided"].any())
        head = f"{'':<{width}}  consistent  {'with gold  ' * gold}mean score{'  decided' * decided}"
        rows = []
        for index, name in enumerate(shown):
            figures = self._of_principle(index)
            agreed = f"{figures['agreement']:>9.1%}  " if gold else ""
            cells = f"{figures['consistent']:>10.1%}  {agreed}{figures['mean_score']:>+10.3f}"
            rows.append(f"{one_line(name):<{width}}  {cells}" + (f"  {figures['decided']:>7,}" if decided else ""))
        if hidden := len(self._names) - len(shown):
            rows.append(f"and {hidden:,} more in run.json")
        return [head, *rows]

    def _correlation_lines(self) -> list[tuple[str, str]]:
        correlations = self._scores.correlations()
        correlations[np.tril_indices(len(self._names))] = np.nan
        if np.isnan(correlations).all():
            return []
        one, other = np.unravel_index(np.nanargmax(correlations), correlations.shape)
        highest = f"{correlations[one, other]:+.2f} of {self._names[one]} and {self._names[other]}"
        return [("correlation", f"between principles' scores: mean {np.nanmean(correlations):+.2f}, highest {highest}")]

    def _of_principle(self, index: int) -> dict[str, Any]:
        counts = {name: int(values[index]) for name, values in self._counts.items()}
        kept = int(self._kept[index])
        return {
            "name": self._names[index],
            "agreement": self._agreements[index].share,
            "consistent": share(counts["consistent"], self._pairs),
            "position_bias": share(kept, self._pairs),
            "prefers_first": share(counts["kept_first"], kept),
            "mean_score": float(self._scores.mean[index]),
            "mean_gap": share(self._gap[index], self._pairs),
            "score_variance": share(self._scores.products[index, index], self._pairs),
            "decided": counts["decided"],
            "mean_label_mass": share(self._mass[index], counts["massed"]),
            "low_mass": counts["low_mass"],
        }

    @property
    def _kept(self) -> NDArray[np.int64]:
        return self._counts["kept_first"] + self._counts["kept_second"]
