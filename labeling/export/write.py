"""A finished run as a file of training data: labels matched with their texts, selected, in the shape asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from preftree.engine.errors import InputError, OutputError, UsageError
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.folder import folder_of
from preftree.labeling.data.labels_file import LABELS, RUN, arrow_type, check_out_file
from preftree.labeling.export.annotated_pairs import AnnotatedPairs
from preftree.labeling.export.calibrated import calibrated
from preftree.labeling.export.comparison import Comparison, Selection, reader_of
from preftree.labeling.export.formats import FORMATS, Format, format_of
from preftree.labeling.export.reading import compared_rows
from preftree.labeling.export.softening import Softening
from preftree.labeling.options.export import ExportOptions
from preftree.labeling.report.text import aligned
from preftree.labeling.runs.recorded import finished_run, labelled_input
from preftree.labeling.runs.view import RunView, view
from preftree.labeling.terminal import count, one_line

ANNOTATED_PAIRS = "annotated-pairs"
# What is in memory at a time: rows hold whole conversations.
_GROUP_ROWS = 1024


def write_export(options: ExportOptions) -> list[str]:
    """Writes `out`, whole or not at all, and returns what to tell a person. Raises PreftreeError."""
    out = Path(options.out)
    if not options.partial:
        finished_run(folder_of(options.run), way_out="; --partial exports what is labelled so far")
    _check_ending(options.to, out)
    check_out_file(out, options.overwrite)
    with view(options.run, options.input) as found:
        selection, rows = _export(options, out, found)
    return _lines(options, found, selection, rows)


def _export(options: ExportOptions, out: Path, found: RunView) -> tuple[Selection, int]:
    """What was selected, and the number of rows written."""
    folder = found.folder
    reader = reader_of(found.record, options.pairs == "all")
    if options.calibration is not None:
        reader = calibrated(reader, found.record, options.calibration)
    selection = _selection(options, found.record)
    dataset = labelled_input(found.record, options.input)
    for path in (*(file.path for file in dataset.files), *(Path(folder.place(name)) for name in (LABELS, RUN))):
        if path.resolve() in (out.resolve(), out.resolve().parent):  # a dataset saved to disk is a directory
            raise OutputError(f"{path} is what is exported; name another --out")
    comparisons = (one for _, one in compared_rows(found.labels, dataset, reader, selection))
    with drafts(out) as [draft]:
        if options.to == ANNOTATED_PAIRS:
            _write_annotated(draft.file, found.record, folder.title, comparisons)
            rows = selection.kept
        else:
            form = format_of(options.to, options.margin, bool(options.soften))
            rows = _write_rows(draft.file, out.suffix.lower(), form, _softened(options, comparisons))
        if not selection.kept:
            raise InputError(f"{folder} leaves nothing to export; {'; '.join(selection.lines()) or 'no rows'}")
    return selection, rows


def _selection(options: ExportOptions, run: Mapping[str, Any]) -> Selection:
    """UsageError for what the method's labels do not tell, or the format cannot say."""
    form = FORMATS.get(options.to)
    if options.soften and (form is None or form.soft):
        raise UsageError(f"--soften is for formats without soft labels, and {options.to} keeps each label as it is")
    if options.margin and options.to != "trl-reward":
        raise UsageError(f"--margin is for trl-reward and not for {options.to}")
    has_ties = form is None or form.ties or options.soften is not None
    if options.ties == "keep" and not has_ties:
        others = f"use trl-soft, soft or {ANNOTATED_PAIRS}, or add --soften"
        raise UsageError(f"--ties keep: {options.to} has a better response in each row; {others}")
    if run["method"].get("name") == "direct":
        if options.soften or (form is not None and form.soft):
            made = "--soften" if options.soften else options.to
            raise UsageError(f"labels of method direct are scores and no probabilities, which {made} is made of")
        if options.min_confidence is not None:
            raise UsageError("labels of method direct have no confidence; leave --min-confidence out")
        if options.drop_inconsistent:
            raise UsageError("method direct shows no order to disagree with; leave --drop-inconsistent out")
    keep_ties = has_ties and options.ties != "drop"
    return Selection(keep_ties, options.min_confidence, options.drop_inconsistent)


def _check_ending(to: str, out: Path) -> None:
    endings = (".json",) if to == ANNOTATED_PAIRS else (".jsonl", ".parquet")
    if out.suffix.lower() not in endings:
        raise InputError(f"{to} is written to {' or '.join(endings)}, which {one_line(out.name)} does not end in")


def _softened(options: ExportOptions, comparisons: Iterator[Comparison]) -> Iterator[Comparison]:
    if options.soften is None:
        return comparisons
    softening = Softening(options.soften, options.seed)
    return (copy for one in comparisons for copy in softening.of(one))


def _write_annotated(file: BinaryIO, run: Mapping[str, Any], dataset: str, comparisons: Iterator[Comparison]) -> None:
    pairs = AnnotatedPairs(run)
    file.write(pairs.begin(dataset))
    for one in comparisons:
        file.write(pairs.entry(one))
    file.write(pairs.end())


def _write_rows(file: BinaryIO, ending: str, form: Format, comparisons: Iterator[Comparison]) -> int:
    """Returns their number."""
    rows = (row for one in comparisons for row in form.rows(one))
    if ending == ".parquet":
        return _write_parquet(file, form, rows)
    number = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        number += 1
    return number


def _write_parquet(file: BinaryIO, form: Format, rows: Iterator[dict[str, Any]]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, arrow_type(spec)) for name, spec in form.columns.items()])
    number = 0
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, _GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            number += len(group)
    return number


def _lines(options: ExportOptions, found: RunView, selection: Selection, rows: int) -> list[str]:
    exported = f"{count(selection.kept, 'pair')} as {options.to}"
    if rows != selection.kept:
        exported += f", {count(rows, 'row')}"
    lines = [*found.so_far(), ("exported", exported)]
    lines += [("left out", reason) for reason in selection.lines()]
    lines.append(("file", one_line(options.out)))
    return aligned(lines).split("\n")
