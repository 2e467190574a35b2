"""Gold pairs that every judge of a panel has labelled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preftree.engine.errors import InputError
from preftree.labeling.calibration.gold import GoldPairs, gold_pairs
from preftree.labeling.panel.judge import Judge
from preftree.labeling.report.arrays import Floats, Mask


def panel_gold(judges: Sequence[Judge], gold_file: str | None) -> tuple[GoldPairs, Floats, Mask]:
    """Gold pairs of the first judge; then, of those that all judges have labelled, [pairs, judges] what each said, and
    gold.

    gold_file: None for the input's own gold. Raises InputError where there is none.
    """
    first, *others = (gold_pairs(judge.labels, gold_file) for judge in judges)
    known = [dict(zip(one.ids, one.p_a.tolist(), strict=True)) for one in (first, *others)]
    kept = [place for place, name in enumerate(first.ids) if all(name in of_judge for of_judge in known)]
    if not kept:
        raise InputError("no pair with gold is labelled by every judge; leave out the run that lacks labels")
    said = np.array([[of_judge[first.ids[place]] for of_judge in known] for place in kept])
    return first, said, first.gold_is_a[kept]
