"""A comparison as a Parquet file: a row for each combination, and one for each pair in each combination."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from preftree.labeling.comparing.comparison import AXES, Compared, Comparison, figures_of
from preftree.labeling.comparing.judged import GOLD
from preftree.labeling.data.atomic import drafts

COMPARISON = "comparison.parquet"

_KEYS = {"kind": "string", "rank": "int64", **dict.fromkeys(AXES, "string")}
_OF_PAIRS = {"id": "string", "gold": "string", "verdict": "string", "p_a": "double", "p_a_first": "double"} | {
    "p_a_second": "double",
    "right": "double",
    "label_mass": "double",
}
_FIGURES = {
    "pairs": "int64",
    **dict.fromkeys(
        (
            *("agreement", "agreement_low", "agreement_high", "expected_calibration_error", "brier"),
            *("position_bias", "prefers_first", "consistent", "mean_label_mass"),
            *("prompt_tokens_per_1000", "unique_tokens_per_1000", "seconds_per_1000"),
            *("best_share", "behind", "behind_low", "behind_high", "mcnemar_p"),
        ),
        "double",
    ),
    "pairs_needed": "int64",
}


def write_comparison(out: Path, comparison: Comparison) -> None:
    """Writes `out`, whole or not at all, in the place of an older one. Raises OutputError.

    kind: "combination" for rows with figures of all pairs, in order of rank; then "pair" for rows of one pair.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in (_KEYS | _OF_PAIRS | _FIGURES).items()])
    ranked = list(enumerate(comparison.entries, start=1))
    with drafts(out) as [draft], parquet.ParquetWriter(draft.file, schema) as writer:
        figures = [_keys("combination", rank, one) | figures_of(one) for rank, one in ranked]
        writer.write_table(pa.Table.from_pylist(figures, schema))
        for rank, one in ranked:
            columns = _pairs(one)
            number = len(one.judged.ids)
            constant = {name: [value] * number for name, value in _keys("pair", rank, one).items()}
            empty = {name: [None] * number for name in _FIGURES}
            writer.write_table(pa.Table.from_pydict(constant | columns | empty, schema))


def _keys(kind: str, rank: int, one: Compared) -> dict[str, Any]:
    return {"kind": kind, "rank": rank} | {name: one.axis(name) or None for name in AXES}


def _pairs(one: Compared) -> dict[str, Any]:
    """By column, an entry a pair; NaN is null."""
    of, number = one.judged.columns, len(one.judged.ids)
    nothing = np.full(number, np.nan)
    numbers = {
        "p_a": of.p_a,
        "p_a_first": of.first,
        "p_a_second": of.second,
        "right": one.judged.right,
        "label_mass": one.judged.mass,
    }
    import pyarrow as pa

    return {
        "id": list(one.judged.ids),
        "gold": [GOLD[value] for value in one.judged.gold.tolist()],
        "verdict": [GOLD[value] for value in of.verdict.tolist()],
        **{name: pa.array(nothing if values is None else values, from_pandas=True) for name, values in numbers.items()},
    }
