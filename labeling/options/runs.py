"""Of commands that fill a run directory."""

from __future__ import annotations

from typing import ClassVar

from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.options.option import Options, option, options
from preftree.labeling.options.scaling import ScalingOptions
from preftree.labeling.values import path, shard_part, switch


@options
class QuietOptions(Options):
    """Of what takes a while."""

    SECTION: ClassVar[str] = "run"

    quiet: bool = option("no progress and no summary", switch, default=False)


@options
class OverwriteOptions(Options):
    """Of what writes."""

    SECTION: ClassVar[str] = "run"

    overwrite: bool = option("replace what is there", switch, excludes="worker", default=False)


@options
class RunOptions(QuietOptions, OverwriteOptions, ScalingOptions):
    """The run directory."""

    out: str = option(
        "output directory, or a URL such as s3://bucket/run (nothing locks there: of several processes each may judge "
        "the same rows, with the same labels); an existing run of the same job is resumed",
        path,
        "DIR",
    )
    force_new: bool = option(
        "start a new run in DIR-2, DIR-3, ... instead of resuming", switch, excludes="overwrite", default=False
    )
    retry_rejects: bool = option("judge rejected rows again", switch, default=False)
    allow_low_mass: bool = option(
        "continue where the labels of the first 100 rows have almost no probability", switch, default=False
    )
    shard: str | None = option(
        "only this part of the rows; `preftree merge` joins the parts",
        shard_part,
        "I/N",
        labels=True,
        excludes="worker",
        default=None,
    )
    worker: str | None = option(
        "judge only this part of the rows, beside other processes with the same --out and another I; whoever is done "
        "last makes the labels",
        shard_part,
        "I/N",
        excludes="force_new",
        default=None,
    )
    profile: str | None = option(
        "write a trace of the first forward passes, for ui.perfetto.dev; compressed if FILE ends in .gz",
        kind=path,
        metavar="FILE",
        excludes="ray",
        default=None,
    )
    subset: str | None = option(
        "report agreement with gold by the values of this input column, too", metavar="COLUMN", flag="by", default=None
    )

    @property
    def directory(self) -> str:
        """Of the run."""
        return self.out


@options
class LabelOptions(RunOptions, JudgeOptions):
    """`preftree label` and `preftree score`."""


@options
class PlanOptions(QuietOptions, JudgeOptions):
    """`preftree plan`."""

    measure: bool = option(
        "load the model, run a few seconds of the job, and report how long all of it will take on this machine",
        switch,
        default=False,
    )
