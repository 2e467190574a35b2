"""A finished run as a file of training data: labels matched with their texts, selected, in the shape asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from preftree.engine.errors import InputError, OutputError, UsageError
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.folder import folder_of
from preftree.labeling.data.labels_file import LABELS, RUN, arrow_type, check_out_file, label_rows, with_samples
from preftree.labeling.export.annotated_pairs import AnnotatedPairs
from preftree.labeling.export.comparison import NO_COMPARISON, NO_LABEL, Comparison, Reader, Selection, reader_of
from preftree.labeling.export.formats import FORMATS, Format
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
        selection = _export(options, out, found)
    return _lines(options, found, selection)


def _export(options: ExportOptions, out: Path, found: RunView) -> Selection:
    folder = found.folder
    reader = reader_of(found.record, options.pairs == "all")
    selection = _selection(options, found.record)
    dataset = labelled_input(found.record, options.input)
    for path in (*(file.path for file in dataset.files), *(Path(folder.place(name)) for name in (LABELS, RUN))):
        if path.resolve() in (out.resolve(), out.resolve().parent):  # a dataset saved to disk is a directory
            raise OutputError(f"{path} is what is exported; name another --out")
    comparisons = _comparisons(found.labels, dataset, reader, selection)
    with drafts(out) as [draft]:
        if options.to == ANNOTATED_PAIRS:
            _write_annotated(draft.file, found.record, folder.title, comparisons)
        else:
            _write_rows(draft.file, out.suffix.lower(), FORMATS[options.to], comparisons)
        if not selection.kept:
            raise InputError(f"{folder} leaves nothing to export; {'; '.join(selection.lines()) or 'no rows'}")
    return selection


def _selection(options: ExportOptions, run: Mapping[str, Any]) -> Selection:
    """InputError for what the method's labels do not tell, or the format cannot say."""
    has_ties = options.to == ANNOTATED_PAIRS or FORMATS[options.to].ties
    if options.ties == "keep" and not has_ties:
        raise UsageError(f"--ties keep: {options.to} has a better response in each row; use soft or {ANNOTATED_PAIRS}")
    if run["method"].get("name") == "direct":
        if options.to != ANNOTATED_PAIRS and FORMATS[options.to].soft:
            raise UsageError(f"labels of method direct are scores and no probabilities, which {options.to} is made of")
        if options.min_confidence is not None:
            raise UsageError("labels of method direct have no confidence; leave --min-confidence out")
        if options.drop_inconsistent:
            raise UsageError("method direct shows no order to disagree with; leave --drop-inconsistent out")
    keep_ties = has_ties if options.ties is None else options.ties == "keep"
    return Selection(keep_ties, options.min_confidence, options.drop_inconsistent)


def _check_ending(to: str, out: Path) -> None:
    endings = (".json",) if to == ANNOTATED_PAIRS else (".jsonl", ".parquet")
    if out.suffix.lower() not in endings:
        raise InputError(f"{to} is written to {' or '.join(endings)}, which {one_line(out.name)} does not end in")


def _comparisons(labels: Path, dataset: Dataset, reader: Reader, selection: Selection) -> Iterator[Comparison]:
    for sample, row in with_samples(label_rows(labels, ("id", "status", *reader.columns)), dataset.read(), labels):
        if sample is None:
            selection.leave_out(NO_LABEL)
            continue
        try:
            found = list(reader.comparisons(sample, row))
        except (KeyError, TypeError, IndexError) as error:
            raise OutputError(f"{labels}: row {one_line(sample.id)} lacks what its method's labels have") from error
        if not found:
            selection.leave_out(NO_COMPARISON)
        yield from filter(selection.takes, found)


def _write_annotated(file: BinaryIO, run: Mapping[str, Any], dataset: str, comparisons: Iterator[Comparison]) -> None:
    pairs = AnnotatedPairs(run)
    file.write(pairs.begin(dataset))
    for one in comparisons:
        file.write(pairs.entry(one))
    file.write(pairs.end())


def _write_rows(file: BinaryIO, ending: str, form: Format, comparisons: Iterator[Comparison]) -> None:
    rows = (row for one in comparisons for row in form.rows(one))
    if ending == ".parquet":
        _write_parquet(file, form, rows)
        return
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _write_parquet(file: BinaryIO, form: Format, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, arrow_type(spec)) for name, spec in form.columns.items()])
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, _GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _lines(options: ExportOptions, found: RunView, selection: Selection) -> list[str]:
    lines = [*found.so_far(), ("exported", f"{count(selection.kept, 'pair')} as {options.to}")]
    lines += [("left out", reason) for reason in selection.lines()]
    lines.append(("file", one_line(options.out)))
    return aligned(lines).split("\n")
