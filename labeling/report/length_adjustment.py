"""The win rate that A would have at equal lengths (Lee et al. 2023, appendix J)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preftree.labeling.report.arrays import Floats
from preftree.labeling.report.logistic import Prediction, predict

_EXACT_PAIRS = 1 << 16
_BINS_PER_E = 1024  # bins are 0.1% wide
_EQUAL = 1.0
_MAX_CHARS = 2.0**63


@dataclass
class LengthAdjustment:
    """Logistic regression of "A wins" on the lengths of both responses: P = sigmoid(b0 + b1 * (a / b - 1)).

    As in the paper, x is the length of A divided by that of B, and the adjusted win rate is what the regression
    predicts for a ratio of 1, sigmoid(b0). Lengths are the characters in `response_chars`: what the paper counts, and
    the same under every tokenizer. The ratio is not symmetric: with A and B swapped, the adjusted rates of the two
    need not sum to 1.

    The outcome is the verdict, a win, a loss or half of each for a tie, as in the paper, and not p_a: the interval
    comes from the Fisher information of binary outcomes, which probabilities are not. Pairs without both lengths, or
    with an empty response, are left out.

    Up to 65,536 pairs the fit is exact. With more of them, ratios that differ by less than 0.1% are counted together
    at their mean, so that memory is constant (at most 24 bytes for each of 131,072 entries).

    Attributes:
        pairs: pairs in the regression.
    """

    pairs: int = 0
    _size: int = 0
    _tables: list[Floats] = field(default_factory=list)

    def add(self, chars: Floats, wins: Floats) -> None:
        """chars: [pairs, 2], characters of A and of B, NaN where they are not known. wins: 1, 0 or 0.5 of each."""
        there = ((chars > 0) & (chars < _MAX_CHARS)).all(axis=1)
        ratio = chars[there, 0] / chars[there, 1]
        self.pairs += len(ratio)
        self._size += len(ratio)
        self._tables.append(np.stack((ratio, np.ones_like(ratio), wins[there])))
        if self._size > _EXACT_PAIRS:
            self._tables = [_binned(np.concatenate(self._tables, axis=1))]
            self._size = self._tables[0].shape[1]

    def prediction(self) -> Prediction | None:
        """At equal lengths; None where no adjustment is possible.

        That is so without pairs, where all ratios are one, where A wins all pairs or none, and where a ratio separates
        the wins from the losses.
        """
        if not self.pairs:
            return None
        table = np.concatenate(self._tables, axis=1)
        ratio, pairs, wins = _binned(table) if self.pairs > _EXACT_PAIRS else table
        return predict(ratio, pairs, wins, _EQUAL)

    def figures(self) -> dict[str, Any] | None:
        """For run.json; None where no adjustment is possible. log_odds_per_ratio: b1."""
        found = self.prediction()
        if found is None:
            return None
        return {
            "pairs": self.pairs,
            "share": found.share,
            "interval": found.interval,
            "log_odds_per_ratio": found.slope,
        }


def _binned(table: Floats) -> Floats:
    """[3, entries] of ratio, pairs and wins: one entry for each bin of the logarithm of the ratio."""
    ratio, pairs, wins = table
    bins = np.rint(np.log(ratio) * _BINS_PER_E).astype(np.int64)
    bins -= bins.min()
    total, won, ratios = (np.bincount(bins, one) for one in (pairs, wins, pairs * ratio))
    used = total > 0
    return np.stack((ratios[used] / total[used], total[used], won[used]))
