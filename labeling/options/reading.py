"""Of commands that read a run."""

from __future__ import annotations

from typing import Literal

from preftree.labeling.options.methods import RULES
from preftree.labeling.options.option import Options, option, options
from preftree.labeling.options.runs import OverwriteOptions, QuietOptions
from preftree.labeling.options.scaling import HardwareOptions
from preftree.labeling.values import Each, one_of, path, switch, whole

_LABELLED = "a directory or URL that `preftree label` has filled"


@options
class MovedOptions(Options):
    """Of what reads a labelled input again."""

    input: str | None = option(
        "where the labelled input is now, if it was moved", kind=path, metavar="FILE", default=None
    )


@options
class StatusOptions(MovedOptions):
    """`preftree status`."""

    dir: str = option("the --out of a `preftree label`", kind=path, metavar="DIR", flag="")


@options
class MergeOptions(QuietOptions, OverwriteOptions, MovedOptions, HardwareOptions):
    """`preftree merge`."""

    shards: tuple[str, ...] = option(
        "the directory of a finished run with --shard; name all of them", Each(path), metavar="SHARD", flag=""
    )
    out: str = option("the joined run", path, "DIR")


@options
class AggregateOptions(QuietOptions, OverwriteOptions, MovedOptions, HardwareOptions):
    """`preftree aggregate`. What is None is as in the run."""

    run: str = option(_LABELLED, kind=path, metavar="RUN", flag="")
    aggregate: str | None = option(f"salmon: {', '.join(RULES)}", one_of(*RULES), "RULE", default=None)
    subset: str | None = option(
        "report agreement with gold by the values of this input column, too", metavar="COLUMN", flag="by", default=None
    )
    calibration: str | None = option(
        "make p_a the calibrated probability, by a file of `preftree calibrate`; none: what the judge said again",
        kind=path,
        metavar="FILE",
        default=None,
    )
    out: str | None = option("a new run with the same answers (default: RUN itself)", path, "DIR", default=None)


@options
class VerifyOptions(QuietOptions, MovedOptions):
    """`preftree verify`."""

    run: str = option(f"{_LABELLED}, or is filling", kind=path, metavar="RUN", flag="")
    rows: int = option("rows to judge again, drawn from all that are answered", whole(1), "N", "n", default=100)
    seed: int = option("seed of the choice of rows", whole(0), "N", default=0)
    model: str | None = option("where the model is now, if it was moved", metavar="MODEL", default=None)
    regenerate: bool = option(
        "generate rationales again, too, instead of scoring after the recorded ones", switch, default=False
    )


@options
class ShowOptions(MovedOptions):
    """`preftree show`."""

    run: str = option(f"{_LABELLED}, or is filling", kind=path, metavar="RUN", flag="")
    id: str | None = option(
        "id of a row, to show all of it; line-N where the input has no ids", metavar="ID", flag="", default=None
    )
    which: Literal["disagree", "biased", "wrong"] | None = option(
        "rows worth reading",
        one_of("disagree", "biased", "wrong"),
        switches={
            "disagree": "rows on which the two orders prefer different responses",
            "biased": "rows with the largest position gap",
            "wrong": "rows whose verdict is not that of gold, the most confident first",
        },
        excludes="id",
        default=None,
    )
    rows: int = option("rows to show", whole(1), "N", "n", excludes="id", default=10)


@options
class ReportOptions(MovedOptions):
    """`preftree report`."""

    labels: str = option(
        f"{_LABELLED}; or a Parquet file with columns as labels.parquet has them",
        kind=path,
        metavar="RUN_OR_FILE",
        flag="",
    )
    subset: str | None = option("figures by the values of this column, too", metavar="COLUMN", default=None)
    html: str | None = option(
        "write a page to look at instead: figures, plots and the rows worth reading in one file",
        kind=path,
        metavar="FILE",
        default=None,
    )
    overwrite: bool = option("replace FILE", switch, requires=("html",), default=False)
