"""Gold pairs become a calibration, and what there is to say of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from preftree.labeling.calibration import isotonic, temperature
from preftree.labeling.calibration.acceptance import Acceptance, accept
from preftree.labeling.calibration.artefact import Calibration
from preftree.labeling.calibration.gold import GoldPairs
from preftree.labeling.calibration.scores import FOLDS, Fit, Scores, cross_validated, score_lines
from preftree.labeling.report.arrays import Floats
from preftree.labeling.report.calibration import confidence, rightness
from preftree.labeling.report.subsets import MAX_VALUES, OTHERS
from preftree.labeling.terminal import count, one_line

FEW, VERY_FEW = 100, 20
_FITTED: Mapping[str, Fit] = {"temperature": temperature.fitted, "isotonic": isotonic.fitted}
_FITTED_FOLD: Mapping[str, Fit] = {"temperature": temperature.fitted_fold, "isotonic": isotonic.fitted}


def calibration_of(method: str, gold: GoldPairs, judged: Mapping[str, Any]) -> Calibration:
    """Raises InputError where no curve can be fitted.

    Args:
        method: "temperature" or "isotonic".
        gold: one pair or more.
        judged: see `preftree.labeling.calibration.identity.judged_of`.
    """
    curve = _FITTED[method](gold.p_a, gold.gold_is_a)
    held_out = cross_validated(_FITTED_FOLD[method], gold.p_a, gold.gold_is_a)
    before = Scores.of(gold.p_a, gold.gold_is_a)
    after = None if held_out is None else Scores.of(held_out, gold.gold_is_a)
    return Calibration(method, curve, len(gold), before, after, judged, _subsets(gold, held_out))


def accepted_by(gold: GoldPairs, max_error: float, guarantee: float) -> Acceptance:
    """Which labels may be accepted; see `preftree.labeling.calibration.acceptance.accept`."""
    right = rightness(gold.p_a, gold.gold_is_a) == 1
    return accept(confidence(gold.p_a), right, confidence(gold.others), max_error, guarantee)


def calibration_lines(gold: GoldPairs, found: Calibration) -> list[tuple[str, str]]:
    """For a terminal."""
    lines = [*gold.lines(), *_warnings(found), *found.curve.lines(), *score_lines(found.before, found.after)]
    for one in found.subsets:
        before = Scores.recorded(one["before"])
        after = None if one["after"] is None else Scores.recorded(one["after"])
        lines.append((f"subset {one_line(one['value'])}", count(one["pairs"], "gold pair")))
        lines += score_lines(before, after)
    return lines + (found.acceptance.lines() if found.acceptance else [])


def _warnings(found: Calibration) -> list[tuple[str, str]]:
    said = []
    if found.pairs < VERY_FEW:
        said.append(f"fewer than {VERY_FEW} gold pairs tell hardly more than chance; get {FEW} or more")
    elif found.pairs < FEW:
        said.append(f"fewer than {FEW} gold pairs: look at the intervals before you rely on it")
    if found.after is None:
        said.append(f"what calibration gains cannot be said below {2 * FOLDS} gold pairs")
    elif found.after.nll.value > found.before.nll.value:
        said.append("on pairs that it was not fitted to, log loss is larger than before; leave p_a as it is")
    return [("warning", text) for text in said]


def _subsets(gold: GoldPairs, held_out: Floats | None) -> tuple[dict[str, Any], ...]:
    """In the order in which values appear; the curve is that of all pairs."""
    if gold.subset is None:
        return ()
    kept = list(dict.fromkeys(gold.subset))[:MAX_VALUES]
    values = np.array([value if value in kept else OTHERS for value in gold.subset], dtype=object)
    found = []
    for value in dict.fromkeys(values.tolist()):
        mine = values == value
        of_gold = gold.gold_is_a[mine]
        after = None if held_out is None else Scores.of(held_out[mine], of_gold).record()
        before = Scores.of(gold.p_a[mine], of_gold).record()
        found.append({"value": value, "pairs": int(mine.sum()), "before": before, "after": after})
    return tuple(found)
