"""Labels of a run, and which of them a calibration accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.calibration.acceptance import Acceptance
from preftree.labeling.calibration.artefact import Calibration
from preftree.labeling.calibration.identity import CALIBRATION
from preftree.labeling.data.columns import UNCALIBRATED
from preftree.labeling.export.comparison import Comparison, Reader, Row
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Sample


def acceptance_of(record: Mapping[str, Any], path: str) -> Acceptance:
    """What a calibration accepts. Raises InputError where it says nothing of that, or is of another judge.

    record: a run.json. path: of the calibration.
    """
    found = Calibration.read(path)
    found.check(record, path)
    if found.acceptance is None:
        again = "`preftree calibrate RUN --max-error A`"
        raise InputError(f"{one_line(path)} does not say which labels to accept; make it again with {again}")
    return found.acceptance


def accepting(reader: Reader, record: Mapping[str, Any], acceptance: Acceptance) -> Reader:
    """The reader of a run's labels, whose comparisons say whether they are accepted.

    What the judge said decides, also where the labels, or what is exported, are calibrated.
    """
    said = UNCALIBRATED if CALIBRATION in record["method"] else "p_a"

    def comparisons(sample: Sample, row: Row) -> Iterator[Comparison]:
        accepted = (p_a := row.get(said)) is not None and acceptance.accepts(p_a)
        for one in reader.comparisons(sample, row):
            yield replace(one, accepted=accepted)

    if said in (*reader.columns, *reader.optional):
        return replace(reader, comparisons=comparisons)
    place = "columns" if "p_a" in reader.columns else "optional"
    more: dict[str, Any] = {place: (*getattr(reader, place), said)}
    return replace(reader, comparisons=comparisons, **more)
