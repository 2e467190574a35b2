"""Of `preftree combine`."""

from __future__ import annotations

from typing import Literal

from preftree.labeling.options.option import option, options
from preftree.labeling.options.reading import MovedOptions
from preftree.labeling.options.runs import OverwriteOptions, QuietOptions
from preftree.labeling.values import Each, one_of, path


@options
class CombineOptions(QuietOptions, OverwriteOptions, MovedOptions):
    """`preftree combine`."""

    runs: tuple[str, ...] = option(
        "directories or URLs of finished runs over the same pairs, one for each judge", Each(path), "RUN", flag=""
    )
    out: str = option("output directory, a run with the panel's labels", path, "DIR")
    gold: str | None = option(
        "a file with columns id and gold, to calibrate judges and fit weights to", path, "FILE", default=None
    )
    weights: Literal["equal", "fitted"] | None = option(
        "equal, or fitted to gold: of --gold, or else of the input (default: fitted with --gold)",
        one_of("equal", "fitted"),
        "WHICH",
        default=None,
    )
    mean: Literal["probability", "logit"] = option(
        "what of the judges is averaged: probability or logit",
        one_of("probability", "logit"),
        "WHAT",
        default="probability",
    )

    @property
    def is_fitted(self) -> bool:
        """Whether judges are calibrated and weights fitted."""
        return self.weights == "fitted" or (self.weights is None and self.gold is not None)
