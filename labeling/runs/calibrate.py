"""`preftree calibrate`: a file that says how far a judge's probabilities can be trusted, and makes better ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from preftree.engine.errors import OutputError
from preftree.labeling.calibration.fitting import accepted_by, calibration_lines, calibration_of
from preftree.labeling.calibration.gold import gold_pairs
from preftree.labeling.calibration.identity import judged_of
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.labels_file import check_out_file
from preftree.labeling.options.calibrating import CalibrateOptions
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.runs.view import labels_view
from preftree.labeling.terminal import one_line


def calibrate(options: CalibrateOptions) -> Result:
    """Writes `out`, whole or not at all. Raises PreftreeError."""
    out = Path(options.out)
    check_out_file(out, options.overwrite)
    with labels_view(options.labels, options.input) as found:
        for read in (found.labels, options.gold):
            if read is not None and Path(read).resolve() == out.resolve():
                raise OutputError(f"{read} is what is calibrated by; name another --out")
        gold = gold_pairs(found.labels, options.gold, options.subset)
        calibration = calibration_of(options.method, gold, judged_of(found.record))
        if options.max_error is not None:
            calibration = replace(calibration, acceptance=accepted_by(gold, options.max_error, options.confidence))
        so_far = found.so_far()
    with drafts(out) as [draft]:
        draft.file.write(calibration.text().encode())
    lines = [*so_far, ("calibration", one_line(str(out))), *calibration_lines(gold, calibration)]
    return Result([aligned(lines)], {"calibration": str(out)} | calibration.record())
