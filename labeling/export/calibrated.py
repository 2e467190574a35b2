"""Labels of a run with calibrated probabilities, while the run stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.calibration.artefact import Calibration
from preftree.labeling.calibration.identity import CALIBRATION
from preftree.labeling.export.comparison import Comparison, Reader, Row
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Pair, Sample


def calibrated(reader: Reader, record: Mapping[str, Any], path: str) -> Reader:
    """The reader of a run's labels, with calibrated p_a of pairs; verdicts are the same.

    Args:
        reader: of the run.
        record: its run.json.
        path: a calibration.

    Raises:
        InputError: it is none, or of another judge; the labels have no p_a, or another calibration already.
    """
    if "p_a" not in (*reader.columns, *reader.optional):
        name = record["method"]["name"]
        raise InputError(f"--calibration is about p_a, which labels of method {name} do not have here; leave it out")
    found = Calibration.read(path)
    found.check(record, path)
    then = record["method"].get(CALIBRATION)
    if then is not None and then["sha256"] != found.sha256:
        raise InputError(
            f"the labels are calibrated already, and not by {one_line(path)}; leave --calibration out, or use "
            "`preftree aggregate RUN --calibration FILE` to change the run"
        )

    def comparisons(sample: Sample, row: Row) -> Iterator[Comparison]:
        for one in reader.comparisons(sample, row):
            yield replace(one, p_a=found.at(one.p_a)) if isinstance(sample, Pair) and one.p_a is not None else one

    return reader if then is not None else replace(reader, comparisons=comparisons)
