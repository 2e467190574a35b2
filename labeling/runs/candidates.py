"""Prompts become rows to label: a policy's responses, drawn in a run of their own beside the file that is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError
from preftree.labeling.answers.answers import Answers
from preftree.labeling.answers.writer import AnswerWriter
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.labels_file import check_out_file
from preftree.labeling.data.row import prompt_value
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.candidates import Candidates
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.report.text import Rejections, RunSummary
from preftree.labeling.runs.asking import ask
from preftree.labeling.runs.directory import RunDirectory
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.joining import labelled_rows
from preftree.labeling.runs.labels import dates_of, summary_of, warn_of_hardware
from preftree.labeling.runs.run import run_worker
from preftree.labeling.types import Rejected


def run_sample(
    options: SampleOptions,
    judge_factory: Callable[..., AnyJudge] | None = None,
    asking: Callable[[Job, AnswerWriter, Any], None] = ask,
) -> RunSummary:
    """Write candidate responses, or resume the run that writes them. Raises PreftreeError and `Interrupted`.

    asking: as of `run_worker`.
    """
    method, out = Candidates(options.sampling), Path(options.out)
    if out.resolve() in (Path(name).resolve() for name in options.input):
        raise OutputError(f"{out} is what responses are drawn for; name another --out")
    # What a run of this directory has written it may write again.
    check_out_file(out, options.overwrite or Path(options.directory).is_dir())
    summary = run_worker(options, judge_factory, lambda _: method, partial(_write, out, options.n), asking)
    assert summary is not None, "only workers leave rows to others"
    return summary


def _write(
    out: Path, number: int, directory: RunDirectory, job: Job, record: dict[str, Any], answers: Answers
) -> RunSummary:
    """Writes `out`, then the record of the complete run. Rejected rows are in neither, but in the summary.

    number: of responses to each prompt.
    """
    warn_of_hardware(job, answers)
    ok, rejections = 0, Rejections()
    info = job.dataset.info
    with drafts(out) as [draft]:
        for item, label, _ in labelled_rows(job, answers):
            if isinstance(item, Rejected):
                rejections.add(info.place(item.line), item.reason)
            elif label is not None:
                row = {"id": item.id, "prompt": prompt_value(item.prompt), **label.values(), **item.extra}
                draft.file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
                ok += 1
        job.dataset.check_unchanged()
        if not ok:
            raise InputError(f"no prompt of {job.dataset.name} has responses: {rejections.by_kind()}")
    summary = summary_of(out, directory, answers, job, record, ok, rejections)
    summary = replace(summary, next_method={1: "direct", 2: "rlaif"}.get(number, "ranking"))
    directory.finish({**record, **dates_of(answers), "totals": summary.totals()})
    return summary
