"""How good labels of pairs are: agreement with gold, calibration, position and length bias, label mass, win rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preftree.labeling.data.columns import UNCALIBRATED
from preftree.labeling.report.agreement import Agreement, decided
from preftree.labeling.report.arrays import (
    NONE,
    TIE,
    Choices,
    Floats,
    Mask,
    choices,
    column,
    flattened,
    known,
    numbers,
    probabilities,
    sizes,
)
from preftree.labeling.report.calibration import Calibration
from preftree.labeling.report.findings import LOW_MASS
from preftree.labeling.report.intervals import share
from preftree.labeling.report.lengths import LengthBias
from preftree.labeling.report.positions import Positions
from preftree.labeling.report.win_rate import WinRate
from preftree.labeling.terminal import count

LENGTHS = "response_chars"
_ORDERS = ("p_a_first", "p_a_second")
_MASSES = ("label_mass_first", "label_mass_second")
# Columns beyond p_a, and the figures that need them.
NEEDS = {_ORDERS: "position bias", _MASSES: "label mass", (LENGTHS,): "length bias"}


@dataclass(frozen=True)
class PairColumns:
    """Columns of labelled pairs, one entry a pair. Numbers are NaN where a pair has none.

    Attributes:
        p_a: probability that A is better.
        verdict: A, B or TIE.
        first: p_a with A shown first; None without the column.
        second: the same with A shown second.
        mass_first: probability of the label tokens together, A shown first; None without the column.
        mass_second: the same with A shown second.
        gold: A, B, TIE or NONE; None without the column.
        chars: [pairs, 2], characters of A and of B; None where they are not known.
        uncalibrated: p_a as the judge said it, where `p_a` is calibrated; None without the column.
    """

    p_a: Floats
    verdict: Choices
    first: Floats | None = None
    second: Floats | None = None
    mass_first: Floats | None = None
    mass_second: Floats | None = None
    gold: Choices | None = None
    chars: Floats | None = None
    uncalibrated: Floats | None = None

    def where(self, mask: Mask) -> PairColumns:
        found: dict[str, Any] = {name: None if one is None else one[mask] for name, one in vars(self).items()}
        return PairColumns(**found)


def pair_columns(batch: Any, gold: Choices | None, chars: Floats | None) -> PairColumns:
    """Those of a record batch, without rows that have no verdict. See `PairColumns`."""
    kinds = dict.fromkeys(("p_a", UNCALIBRATED, *_ORDERS), probabilities) | dict.fromkeys(_MASSES, numbers)
    found = {name: column(batch, name) for name in kinds}
    read = {name: None if found[name] is None else kind(found[name], name) for name, kind in kinds.items()}
    p_a = np.full(len(batch), np.nan) if read["p_a"] is None else read["p_a"]
    verdicts = column(batch, "verdict")
    verdict = np.full(len(batch), NONE, np.int8) if verdicts is None else choices(verdicts)
    follows = np.where(np.isnan(p_a), NONE, np.sign(np.nan_to_num(p_a) - 0.5)).astype(np.int8)
    verdict = np.where(verdict == NONE, follows, verdict)
    first, second, mass_first, mass_second = (read[name] for name in (*_ORDERS, *_MASSES))
    of_all = PairColumns(p_a, verdict, first, second, mass_first, mass_second, gold, chars, read[UNCALIBRATED])
    return of_all.where(verdict != NONE)


def pair_chars(batch: Any) -> Floats | None:
    """[rows, 2]: characters of both responses, NaN for rows that are no pairs; None where no column says."""
    from pyarrow import compute, types

    texts = [column(batch, name) for name in ("response_a", "response_b")]
    if (lengths := column(batch, LENGTHS)) is not None:
        found = np.full((len(batch), 2), np.nan)
        rows, values = flattened(lengths)
        of_pairs = sizes(lengths) == 2
        found[of_pairs] = numbers(values, LENGTHS)[of_pairs[rows]].reshape(-1, 2)
        return found
    if all(text is not None and types.is_string(text.type) for text in texts):
        return np.stack([numbers(compute.utf8_length(text), LENGTHS) for text in texts], axis=1)
    return None


def gold_of(batch: Any) -> Choices | None:
    """A, B, TIE or NONE for each row; None without the column."""
    gold = column(batch, "gold")
    return None if gold is None else choices(gold)


@dataclass
class PairFigures:
    """Running figures over labelled pairs.

    A label that ties against a gold that does not counts as half an agreement.

    Attributes:
        win_rate: how often A wins; None where the responses A are not one policy's.
    """

    pairs: int = 0
    ties: int = 0
    gold: Agreement = field(default_factory=Agreement)
    positions: Positions = field(default_factory=Positions)
    low_mass: int = 0
    calibration: Calibration = field(default_factory=Calibration)
    uncalibrated: Calibration = field(default_factory=Calibration)
    lengths: LengthBias = field(default_factory=LengthBias)
    win_rate: WinRate | None = field(default_factory=WinRate)
    _massed: int = 0
    _mass: float = 0.0

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        self.add_columns(pair_columns(batch, gold_of(batch), pair_chars(batch)))

    def add_columns(self, of: PairColumns) -> None:
        self.pairs += len(of.verdict)
        self.ties += int(np.count_nonzero(of.verdict == TIE))
        if of.gold is not None:
            self.gold.add(of.verdict, of.gold)
            for reliability, p_a in ((self.calibration, of.p_a), (self.uncalibrated, of.uncalibrated)):
                if p_a is not None:
                    forecast = decided(of.gold) & known(p_a)
                    reliability.add(p_a[forecast], of.gold[forecast] > 0)
        if of.first is not None and of.second is not None:
            there = known(of.first, of.second)
            gold = None if of.gold is None else of.gold[there]
            self.positions.add(of.first[there], of.second[there], of.verdict[there], gold)
        if of.mass_first is not None and of.mass_second is not None:
            there = known(of.mass_first, of.mass_second)
            first, second = of.mass_first[there], of.mass_second[there]
            self._massed += len(first)
            self._mass += float(((first + second) / 2).sum())
            self.low_mass += int(np.count_nonzero(np.minimum(first, second) < LOW_MASS))
        if of.chars is not None:
            self.lengths.add(of.chars[:, 0] - of.chars[:, 1], of.p_a, of.verdict, of.gold)
        if self.win_rate is not None:
            self.win_rate.add(of.verdict, of.p_a, of.chars)

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        return {
            "pairs": self.pairs,
            "ties": self.ties,
            **self.positions.figures(),
            "mean_label_mass": share(self._mass, self._massed),
            "low_mass": self.low_mass,
            **self.gold.figures(),
            **self.reliability(),
            "length_bias": self.lengths.figures(),
            "win_rate": self.win_rate and self.win_rate.figures(),
        }

    def reliability(self) -> dict[str, Any]:
        """For run.json: of p_a, and of what the judge said where p_a is calibrated."""
        before = {"uncalibrated": self.uncalibrated.figures()} if self.uncalibrated.pairs else {}
        return {"calibration": self.calibration.figures(), **before}

    def reliability_lines(self) -> list[tuple[str, str]]:
        """For a terminal: the same."""
        before = [("before calibration", self.uncalibrated.text())] if self.uncalibrated.pairs else []
        return self.calibration.lines() + before

    def lines(self) -> list[tuple[str, str]]:
        lines = self.gold.lines() + self.reliability_lines() + self.positions.lines()
        if self._massed:
            text = f"mean {self._mass / self._massed:.3f}"
            if self.low_mass:
                text += f"; {count(self.low_mass, 'pair')} under {LOW_MASS} in an order"
            lines.append(("label mass", text))
        lines += self.lengths.lines()
        if self.win_rate is not None:
            lines += self.win_rate.lines()
        if self.ties:
            lines.append(("ties", count(self.ties, "pair")))
        return lines

    def briefly(self) -> list[str]:
        """The figures on one line; none where there are no pairs."""
        if not self.pairs:
            return []
        texts = []
        if self.gold.pairs:
            texts.append(f"{self.gold.share:.1%} of {self.gold.pairs:,} agree with gold ({self.gold.interval_text()})")
        if self.positions.pairs:
            texts.append(f"position bias {self.positions.kept / self.positions.pairs:.1%}")
        if self._massed:
            texts.append(f"label mass {self._mass / self._massed:.3f}")
        if self.win_rate is not None and not self.gold.pairs:
            texts += self.win_rate.briefly()
        return [f"{count(self.pairs, 'pair')}: {', '.join(texts)}" if texts else count(self.pairs, "pair")]
