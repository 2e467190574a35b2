"""A finished run as a file of training data: labels matched with their texts, selected, in the shape asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

from preftree.engine.errors import InputError, OutputError, UsageError
from preftree.labeling.calibration.acceptance import Acceptance
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.folder import folder_of
from preftree.labeling.data.labels_file import LABELS, RUN, check_out_file
from preftree.labeling.export.accepting import acceptance_of, accepting
from preftree.labeling.export.annotated_pairs import AnnotatedPairs
from preftree.labeling.export.calibrated import calibrated
from preftree.labeling.export.comparison import TIE, Reader, Selection, reader_of
from preftree.labeling.export.formats import FORMATS, format_of
from preftree.labeling.export.label_studio import CONFIGURATION, Tasks
from preftree.labeling.export.output import JsonLines, Output, Parquet
from preftree.labeling.export.reading import compared_rows
from preftree.labeling.export.softening import Softening
from preftree.labeling.options.export import ExportOptions
from preftree.labeling.report.figures import figures_of
from preftree.labeling.report.findings import Finding, finding_lines, findings
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.runs.recorded import finished_run, labelled_input
from preftree.labeling.runs.view import RunView, view
from preftree.labeling.terminal import count, one_line

ANNOTATED_PAIRS, LABEL_STUDIO = "annotated-pairs", "label-studio"


def write_export(options: ExportOptions) -> Result:
    """Writes `out` and the files beside it, whole or not at all. Raises PreftreeError."""
    files = _files(options)
    if not options.partial:
        finished_run(folder_of(options.run), way_out="; --partial exports what is labelled so far")
    _check_ending(options.to, files[0])
    for path in files:
        check_out_file(path, options.overwrite)
    with view(options.run, options.input) as found:
        return _export(options, files, found)


def _files(options: ExportOptions) -> list[Path]:
    """The file that was asked for, and what is written beside it."""
    out = Path(options.out)
    if options.to == LABEL_STUDIO:
        return [out, out.with_suffix(".xml")]
    return [out] if options.accept is None else [out, out.with_name(f"{out.stem}.abstained{out.suffix}")]


def _export(options: ExportOptions, files: Sequence[Path], found: RunView) -> Result:
    acceptance = None if options.accept is None else acceptance_of(found.record, options.accept)
    _check_acceptance(options, acceptance)
    reader = reader_of(found.record, options.pairs == "all")
    if acceptance is not None:
        reader = accepting(reader, found.record, acceptance)
    if options.calibration is not None:
        reader = calibrated(reader, found.record, options.calibration)
    selection = _selection(options, reader, found.record["method"]["name"])
    dataset = labelled_input(found.record, options.input)
    taken = {*(out.resolve() for out in files), files[0].resolve().parent}  # a dataset saved to disk is a directory
    for path in (*(file.path for file in dataset.files), *(Path(found.folder.place(name)) for name in (LABELS, RUN))):
        if path.resolve() in taken:
            raise OutputError(f"{path} is what is exported; name another --out")
    with drafts(*files) as made:
        with ExitStack() as stack:
            outputs = _outputs(options, found, [draft.file for draft in made])
            accepted, abstained = (stack.enter_context(closing(output)) for output in outputs)
            for _, one in compared_rows(found.labels, dataset, reader, selection):
                (abstained if one.accepted is False else accepted).add(one)
        written = abstained if options.to == LABEL_STUDIO and acceptance is not None else accepted
        if not written.pairs:
            rest = {"not accepted": abstained.pairs, "accepted without people": accepted.pairs}
            why = selection.lines() + [f"{count(pairs, 'pair')}: {text}" for text, pairs in rest.items() if pairs]
            if TIE in selection.left_out and options.ties is None:
                why.append(f"a tie has no better response: {_holding_ties(reader)}")
            raise InputError(f"{found.folder} leaves nothing to export; {'; '.join(why) or 'no rows'}")
    figures = (None if found.is_partial else found.record.get("quality")) or figures_of(found.labels).figures()
    meant = findings(figures, found.record)
    lines = [*_lines(options, files, found, selection, accepted, abstained), *finding_lines(meant)]
    return Result(aligned(lines).split("\n"), _data(options, files, selection, accepted, abstained, meant))


def _check_acceptance(options: ExportOptions, acceptance: Acceptance | None) -> None:
    """InputError where no label can be accepted and accepted ones are asked for."""
    if acceptance is not None and acceptance.threshold is None and options.to != LABEL_STUDIO:
        raise InputError(
            f"{one_line(str(options.accept))} accepts no label; have people compare the pairs (--to label-studio), or "
            "allow a larger --max-error in `preftree calibrate`"
        )


def _outputs(options: ExportOptions, found: RunView, files: Sequence[BinaryIO]) -> tuple[Output, Output]:
    """Where accepted comparisons go, which all are if nobody asked, and abstained ones."""
    if options.to == LABEL_STUDIO:
        files[1].write(CONFIGURATION.encode())
        tasks = Tasks(files[0])
        return (tasks, Output()) if options.accept is None else (Output(), tasks)
    first, *beside = (_output(options, found, file) for file in files)
    return first, beside[0] if beside else Output()


def _output(options: ExportOptions, found: RunView, file: BinaryIO) -> Output:
    if options.to == ANNOTATED_PAIRS:
        return AnnotatedPairs(file, found.record, found.folder.title)
    form = format_of(options.to, options.margin, bool(options.soften))
    softening = None if options.soften is None else Softening(options.soften, options.seed)
    kind = Parquet if Path(options.out).suffix.lower() == ".parquet" else JsonLines
    return kind(file, form, softening)


def _selection(options: ExportOptions, reader: Reader, method: str) -> Selection:
    """UsageError for what the method's labels do not tell, or the format cannot say."""
    form = FORMATS.get(options.to)
    if options.soften and (form is None or form.soft):
        raise UsageError(f"--soften is for formats without soft labels, and {options.to} keeps each label as it is")
    if options.margin and options.to != "trl-reward":
        raise UsageError(f"--margin is for trl-reward and not for {options.to}")
    has_ties = form is None or form.ties or options.soften is not None
    if options.ties == "keep" and not has_ties:
        raise UsageError(f"--ties keep: {options.to} has a better response in each row; {_holding_ties(reader)}")
    if not reader.has_probabilities:
        none = f"labels of method {method} are scores and no probabilities"
        if options.soften:
            raise UsageError(f"{none}, which --soften is made of; leave it out")
        if form is not None and form.soft:
            others = [name for name, one in FORMATS.items() if not one.soft]
            held = ", ".join((*others, ANNOTATED_PAIRS, LABEL_STUDIO))
            raise UsageError(f"{none}, which {options.to} is made of; formats for them: {held}")
        if options.min_confidence is not None:
            raise UsageError(f"labels of method {method} have no confidence; leave --min-confidence out")
    if options.drop_inconsistent and not reader.has_orders:
        raise UsageError(f"labels of method {method} have no order to disagree with; leave --drop-inconsistent out")
    keep_ties = has_ties and options.ties != "drop"
    return Selection(keep_ties, options.min_confidence, options.drop_inconsistent)


def _holding_ties(reader: Reader) -> str:
    """What to use instead of a format that has a better response in each row."""
    if reader.has_probabilities:
        return f"use trl-soft, soft, {ANNOTATED_PAIRS} or {LABEL_STUDIO}, or add --soften"
    return f"use {ANNOTATED_PAIRS} or {LABEL_STUDIO}"


def _check_ending(to: str, out: Path) -> None:
    endings = (".json",) if to in (ANNOTATED_PAIRS, LABEL_STUDIO) else (".jsonl", ".parquet")
    if out.suffix.lower() not in endings:
        raise InputError(f"{to} is written to {' or '.join(endings)}, which {one_line(out.name)} does not end in")


def _lines(
    options: ExportOptions,
    files: Sequence[Path],
    found: RunView,
    selection: Selection,
    accepted: Output,
    abstained: Output,
) -> list[tuple[str, str]]:
    asks_people = options.to == LABEL_STUDIO
    written = abstained if asks_people and options.accept is not None else accepted
    exported = f"{count(written.pairs, 'pair')} as {options.to}"
    if written.rows != written.pairs:
        exported += f", {count(written.rows, 'row')}"
    lines = [*found.so_far(), ("exported", exported)]
    if options.accept is not None:
        of = accepted.pairs + abstained.pairs
        lines.append(("accepted", f"{count(accepted.pairs, 'pair')} of {of:,} ({accepted.pairs / of:.1%})"))
        lines.append(("abstained", count(abstained.pairs, "pair")))
    lines += [("left out", reason) for reason in selection.lines()]
    lines.append(("file", one_line(options.out)))
    if len(files) > 1:
        lines.append(("labelling configuration" if asks_people else "abstained pairs", one_line(str(files[1]))))
    return lines


def _data(
    options: ExportOptions,
    files: Sequence[Path],
    selection: Selection,
    accepted: Output,
    abstained: Output,
    meant: Sequence[Finding],
) -> dict[str, Any]:
    """For `--json`."""
    asked = {} if options.accept is None else {"accepted": accepted.pairs, "abstained": abstained.pairs}
    written = abstained if options.to == LABEL_STUDIO and options.accept is not None else accepted
    return {
        "format": options.to,
        "pairs": written.pairs,
        "rows": written.rows,
        **asked,
        "left_out": selection.lines(),
        "files": [str(path) for path in files],
        "findings": [one.record() for one in meant],
    }
