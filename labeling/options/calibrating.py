"""Of `preftree calibrate`."""

from __future__ import annotations

from typing import Literal

from preftree.labeling.options.option import option, options
from preftree.labeling.options.reading import MovedOptions
from preftree.labeling.options.runs import OverwriteOptions
from preftree.labeling.values import number, one_of, path

_inside = number(lambda value: 0 < value < 1, "a number above 0 and below 1")


@options
class CalibrateOptions(OverwriteOptions, MovedOptions):
    """`preftree calibrate`."""

    labels: str = option(
        "a directory or URL that `preftree label` has filled; or a Parquet file with p_a and gold",
        kind=path,
        metavar="RUN_OR_FILE",
        flag="",
    )
    out: str = option("JSON to write", path, "FILE")
    gold: str | None = option(
        "JSONL, CSV or Parquet with columns id and gold, or what Label Studio exports as JSON (default: the column "
        "gold of the labels)",
        kind=path,
        metavar="FILE",
        default=None,
    )
    method: Literal["temperature", "isotonic"] = option(
        "temperature (one number, for a hundred gold pairs), or isotonic (any rising curve, for a thousand)",
        one_of("temperature", "isotonic"),
        "NAME",
        default="temperature",
    )
    max_error: float | None = option(
        "find the labels to accept, of which at most this share is wrong", _inside, "A", default=None
    )
    confidence: float = option(
        "the probability that no larger share of them is", _inside, "P", requires=("max_error",), default=0.95
    )
    subset: str | None = option(
        "figures by the values of this column of the labels, too", metavar="COLUMN", default=None
    )
