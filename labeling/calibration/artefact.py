"""A calibration as a file, CAL.json: the curve, how good it is, and the judge that it was made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.calibration.acceptance import Acceptance
from preftree.labeling.calibration.curve import Curve, applied
from preftree.labeling.calibration.identity import judged_of
from preftree.labeling.calibration.isotonic import Isotonic
from preftree.labeling.calibration.scores import Scores
from preftree.labeling.calibration.temperature import Temperature
from preftree.labeling.changes import change
from preftree.labeling.data.source import reading
from preftree.labeling.regular_file import read as read_regular
from preftree.labeling.report.arrays import Floats
from preftree.labeling.terminal import one_line

SCHEMA = 1
_CURVES: dict[str, type[Temperature] | type[Isotonic]] = {"temperature": Temperature, "isotonic": Isotonic}
_WAY_OUT = "make one for these labels with `preftree calibrate`"


@dataclass(frozen=True)
class Calibration:
    """What `preftree calibrate` has found out.

    Attributes:
        method: "temperature" or "isotonic".
        curve: fitted to all gold pairs.
        pairs: their number.
        before: figures of the judge's probabilities.
        after: of calibrated ones, each from a curve that was fitted to other pairs; None for too few pairs to do that.
        judged: the judge and how it was asked, see `judged_of`; empty for labels without a record.
        subsets: of each value of a column its `value`, `pairs`, and the same figures.
        acceptance: which labels may be accepted; None where nobody asked.
    """

    method: str
    curve: Curve
    pairs: int
    before: Scores
    after: Scores | None
    judged: Mapping[str, Any]
    subsets: tuple[Mapping[str, Any], ...] = ()
    acceptance: Acceptance | None = None

    def at(self, p: float) -> float:
        """The calibrated probability."""
        return self.curve.at(p)

    def apply(self, p: Floats) -> Floats:
        """The calibrated probabilities; each has the same bits as alone."""
        return applied(self.curve, p)

    def check(self, record: Mapping[str, Any], name: str) -> None:
        """InputError unless it was made for the judge of a run, asked in the same way, whatever the input was.

        record: a run.json. name: of this calibration, for the message.
        """
        if not self.judged:
            raise InputError(f"{name} was made of labels that do not say who judged them; {_WAY_OUT}")
        then, now = self.judged, judged_of(record)
        for entry in sorted(then.keys() | now.keys()):
            if then.get(entry) != now.get(entry):
                said = change(entry, then.get(entry), now.get(entry))
                raise InputError(f"{name} is for another judge or template: {said}; {_WAY_OUT}")

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "schema": SCHEMA,
            "method": self.method,
            "parameters": self.curve.record(),
            "pairs": self.pairs,
            "before": self.before.record(),
            "after": self.after and self.after.record(),
            "subsets": list(self.subsets),
            "judged": dict(self.judged),
            "acceptance": self.acceptance and self.acceptance.record(),
        }

    @property
    def sha256(self) -> str:
        """Of all of it."""
        return hashlib.sha256(json.dumps(self.record(), sort_keys=True).encode()).hexdigest()

    def text(self) -> str:
        """As the file holds it."""
        return json.dumps(self.record(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def recorded(cls, record: Any, name: str) -> Calibration:
        """From `record`. Raises InputError for anything else, which it calls `name`."""
        if not isinstance(record, dict) or not isinstance(record.get("judged"), dict):
            raise InputError(f"{name} is no calibration; make one with `preftree calibrate RUN --out {name}`")
        if record.get("schema") != SCHEMA:
            schema = one_line(str(record.get("schema")))
            raise InputError(f"{name} has schema {schema}, not {SCHEMA}; make it again with this preftree")
        try:
            method = str(record["method"])
            return cls(
                method=method,
                curve=_CURVES[method].recorded(record["parameters"]),
                pairs=record["pairs"],
                before=Scores.recorded(record["before"]),
                after=record["after"] and Scores.recorded(record["after"]),
                judged=record["judged"],
                subsets=tuple(record["subsets"]),
                acceptance=record["acceptance"] and Acceptance.recorded(record["acceptance"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{name} is damaged ({type(error).__name__}: {one_line(str(error))}); make it again"
            ) from None

    @classmethod
    def read(cls, path: str) -> Calibration:
        """Raises InputError for a file that is not there, or holds something else."""
        with reading(one_line(path)):
            text = read_regular(Path(path))
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        return cls.recorded(found, one_line(path))
