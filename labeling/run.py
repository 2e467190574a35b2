"""read -> requests -> score -> aggregate -> write: a file becomes labels."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.errors import InputError
from labeling.data.reader import Survey, read, sha256_of, survey
from labeling.data.writer import LABELS, RUN, LabelWriter, check_out_dir, check_out_file
from labeling.display import Progress, count, one_line
from labeling.judge import Judge, open_scorer
from labeling.kinds import check_kinds
from labeling.methods.base import Method
from labeling.methods.registry import open_method
from labeling.options import LabelOptions
from labeling.quality.subsets import BySubset, check_subset
from labeling.report import Rejections, RunSummary
from labeling.types import Pair, Rejected
from labeling.windows import label_samples


def run_label(
    options: LabelOptions,
    scorer_factory: Callable[..., Judge] | None = None,
    method_factory: Callable[..., Method] | None = None,
) -> RunSummary:
    """Labels a file into a directory. Raises PreftreeError; then nothing was written.

    Everything that is cheap to find wrong is looked at before the model is loaded.
    """
    source, out_dir = Path(options.input), Path(options.out)
    check_out_dir(out_dir, options.overwrite)
    if options.profile is not None:
        check_out_file(Path(options.profile), options.overwrite)
    method = (method_factory or open_method)(options)
    found = survey(source, options.mapping)
    check_kinds(found, method)
    if options.subset is not None:
        check_subset(found, method.columns, options.subset)
    total = found.rows if options.limit is None else min(found.rows, options.limit)
    with LabelWriter(out_dir, found, method.columns, options.overwrite) as writer:
        if not options.quiet:
            print(
                f"{count(total, 'row')} of {one_line(str(source))}; loading {one_line(options.model)}", file=sys.stderr
            )
        scorer = (scorer_factory or open_scorer)(options)
        with nullcontext() if options.profile is None else scorer.traced(Path(options.profile)):
            summary = _label_rows(options, total, method, scorer, writer)
        if sha256_of(source) != found.sha256:
            raise InputError(f"{source} changed while it was being labelled; label it again")
        writer.publish(_record(options, found, method, scorer, summary))
    return summary


def _label_rows(options: LabelOptions, total: int, method: Method, scorer: Judge, writer: LabelWriter) -> RunSummary:
    quality, rejections, ok = method.quality(), Rejections(), 0
    if options.subset is not None:
        quality = BySubset(quality, options.subset)
    noun = "pair" if method.takes == (Pair,) else "row"
    with Progress(total, options.quiet, noun) as progress:
        items = read(options.input, options.limit, options.mapping)
        for labelled in label_samples(items, method, scorer, progress.written):
            item, label = labelled.item, labelled.label
            writer.add(item, label)
            if isinstance(item, Rejected):
                rejections.add(item.line, item.reason)
            elif label is not None:
                quality.add(item, label)
                ok += 1
            progress.advance()
    usage = scorer.usage
    return RunSummary(
        labels=writer.out_dir / LABELS,
        run=writer.out_dir / RUN,
        judge=_judge(scorer.describe()),
        noun=noun,
        ok=ok,
        quality=quality,
        rejections=rejections,
        prompt_tokens=usage.prompt_tokens,
        unique_tokens=usage.unique_tokens,
        seconds=usage.seconds,
        generated_tokens=usage.generated_tokens,
        rationales=usage.rationales,
        cut_rationales=usage.cut_rationales,
    )


def _record(options: LabelOptions, found: Survey, method: Method, scorer: Judge, summary: RunSummary) -> dict[str, Any]:
    """run.json: all that it takes to make these labels again, and to see what was asked."""
    judge = scorer.describe()
    own = {"preftree": version(), "python": platform.python_version(), "pyarrow": metadata.version("pyarrow")}
    return {
        "versions": own | judge.get("versions", {}),
        "input": {"path": str(found.path.absolute()), "sha256": found.sha256, "rows": found.rows},
        "method": {"name": method.name, **method.record()},
        "scorer": {name: value for name, value in judge.items() if name != "versions"},
        "settings": asdict(options),
        "totals": summary.totals(),
        "quality": summary.quality.figures(),
    }


def _judge(described: dict[str, Any]) -> str:
    device = described.get("device_name") or described.get("device")
    return ", ".join(str(part) for part in (described["model"], device, described.get("dtype")) if part)


def version() -> str:
    try:
        return metadata.version("preftree")
    except metadata.PackageNotFoundError:
        return "not installed"
