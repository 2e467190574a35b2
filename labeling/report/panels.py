"""How good the labels of a panel are, and how its judges agree with gold and with each other."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from preftree.labeling.report.agreement import Agreement, decided
from preftree.labeling.report.arrays import Floats, column, flattened, known, numbers, probabilities
from preftree.labeling.report.calibration import Calibration
from preftree.labeling.report.intervals import share
from preftree.labeling.report.kappa import PairwiseAgreement
from preftree.labeling.report.pairs import PairFigures, gold_of
from preftree.labeling.terminal import one_line

FIELDS = ("judge", "p_a")
DISAGREEMENT = "disagreement"
_LINES = 15


class PanelFigures:
    """Running figures of the panel, of each judge, and of each two judges."""

    def __init__(self) -> None:
        self._panel = PairFigures()
        self._judges: dict[str, tuple[Agreement, Calibration]] = {}
        self._both: dict[tuple[str, str], PairwiseAgreement] = {}
        self._disagreement, self._differing = 0.0, 0

    @property
    def gold(self) -> Agreement:
        """Of the panel."""
        return self._panel.gold

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        self._panel.add(batch)
        said, gold = _by_judge(batch), gold_of(batch)
        for name, p_a in said.items():
            agreement, calibration = self._judges.setdefault(name, (Agreement(), Calibration()))
            if gold is not None:
                there = known(p_a) & decided(gold)
                agreement.add(_verdicts(p_a[there]), gold[there])
                calibration.add(p_a[there], gold[there] > 0)
        for one, other in combinations(said, 2):
            there = known(said[one], said[other])
            both = self._both.setdefault((one, other), PairwiseAgreement())
            both.add(_verdicts(said[one][there]), _verdicts(said[other][there]))
        if (bits := column(batch, DISAGREEMENT)) is not None:
            values = numbers(bits, DISAGREEMENT)
            self._disagreement += float(np.nansum(values))
            self._differing += int(known(values).sum())

    @property
    def _mean_disagreement(self) -> float | None:
        return share(self._disagreement, self._differing)

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        judges = [
            {"name": name, **agreement.figures(), "calibration": calibration.figures()}
            for name, (agreement, calibration) in self._judges.items()
        ]
        both = [
            {"judges": list(names), "pairs": found.pairs, "agreement": found.raw, "kappa": found.kappa}
            for names, found in self._both.items()
        ]
        panel = {"judges": judges, "between_judges": both, "mean_disagreement": self._mean_disagreement}
        return self._panel.figures() | panel

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal."""
        lines = self._panel.lines()
        for name, (agreement, calibration) in self._judges.items():
            if agreement.pairs:
                error = f"; expected error {calibration.expected_error:.3f}"
                lines.append(("judges", f"{one_line(name)}: {agreement.text()} agree with gold{error}"))
        for (one, other), found in list(self._both.items())[:_LINES]:
            if found.raw is not None:
                kappa = "" if found.kappa is None else f", kappa {found.kappa:.3f}"
                lines.append(("between judges", f"{one_line(one)}, {one_line(other)}: {found.raw:.1%} the same{kappa}"))
        if hidden := len(self._both) - _LINES if len(self._both) > _LINES else 0:
            lines.append(("between judges", f"and {hidden:,} more in run.json"))
        if self._mean_disagreement is not None:
            lines.append((DISAGREEMENT, f"mean {self._mean_disagreement:.3f} bits"))
        return lines

    def briefly(self) -> list[str]:
        """The panel's figures on one line."""
        return self._panel.briefly()


def _by_judge(batch: Any) -> dict[str, Floats]:
    """What each judge said of every row, NaN where it said nothing."""
    rows, entries = flattened(column(batch, "judges"))
    encoded = column(entries, "judge").cast("string").dictionary_encode()
    p_a = probabilities(column(entries, "p_a"), "p_a")
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    found = {}
    for code, name in enumerate(encoded.dictionary.to_pylist()):
        found[name] = np.full(len(batch), np.nan)
        found[name][rows[codes == code]] = p_a[codes == code]
    return found


def _verdicts(p_a: Floats) -> Any:
    return np.sign(p_a - 0.5).astype(np.int8)
