"""Of `preftree calibrate`."""

from __future__ import annotations

from typing import Literal

from preftree.labeling.options.option import option, options
from preftree.labeling.options.reading import MovedOptions
from preftree.labeling.options.runs import OverwriteOptions
from preftree.labeling.values import one_of, path


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
        "JSONL, CSV or Parquet with columns id and gold (default: the column gold of the labels)",
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
    subset: str | None = option(
        "figures by the values of this column of the labels, too", metavar="COLUMN", default=None
    )
