"""What labelling a file takes: tokens, sharing, memory, the first prompt, and with --measure the time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from preftree.labeling.data.dataset import Dataset, DatasetInfo
from preftree.labeling.data.selection import rows_of, selection_of
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import open_method, templates_of
from preftree.labeling.options.runs import PlanOptions
from preftree.labeling.pipeline import Entry, Waiting, check_kinds, windows
from preftree.labeling.report.text import Rejections, aligned, judge_text
from preftree.labeling.result import Result
from preftree.labeling.runs.collecting import few_collections
from preftree.labeling.runs.measurement import Spread, measure
from preftree.labeling.terminal import heading, one_line, visible
from preftree.labeling.types import Rejected, Sample

_LOGGER = logging.getLogger("preftree")
_MIB = 1024**2


def plan_lines(
    options: PlanOptions,
    judge_factory: Callable[..., AnyJudge] | None = None,
    method_factory: Callable[..., Method] | None = None,
) -> Result:
    """What labelling a file takes, then its first prompt, in constant memory. Runs no model but to measure."""
    method = (method_factory or open_method)(options)
    dataset = Dataset.open(options.input, options.mapping, options.offline)
    check_kinds(dataset.info, method)
    started = time.perf_counter()
    if options.measure:
        _LOGGER.info(f"loading {one_line(options.model)}")
    judge = (judge_factory or load_judge)(options, weights=options.measure)
    loading = time.perf_counter() - started
    total = _totals(options, dataset, method, judge)
    first, warnings = total.first, _warnings(method)
    data = total.record() | {"seconds": None, "warnings": [text for _, text in warnings]}
    lines = total.lines() + ([] if first is None else _of_first(method, first, total.prompts))
    if options.measure and first is not None:
        _LOGGER.info(f"running {judge_text(judge.describe())}, to measure")
        asked = first.encoded[0].rationale
        rationales = 0 if asked is None else total.prompts * asked.reasoning.n
        labelled = total.rows - total.rejections.count
        measured = measure(total.spread, method, judge)
        lines += measured.lines(labelled, total.unique_tokens, rationales, loading)
        data["seconds"] = measured.estimate(total.unique_tokens, rationales)
    elif first is not None:
        lines.append(("time", "not measured; --measure runs a few seconds of the job to estimate it"))
    shown = [aligned(lines + warnings)]
    if first is None:
        return Result([*shown, "\nno row of the input can be labelled"], data | {"first_prompt": None})
    request = method.requests(first.sample)[0]
    prompt = judge.render(request)
    shown += [heading(f"first prompt: {one_line(first.sample.id)}, {one_line(request.title)}"), visible(prompt)]
    if request.rationale is not None:
        shown += [heading("then, after the rationale"), visible(request.rationale.ending)]
    return Result(shown, data | {"first_prompt": {"id": first.sample.id, "title": request.title, "text": prompt}})


def _totals(options: PlanOptions, dataset: Dataset, method: Method, judge: AnyJudge) -> JobTotals:
    """Of all rows, with a bar or lines on stderr."""
    from preftree.labeling.progress import Progress

    rows = rows_of(dataset.info.rows, **selection_of(vars(options)))
    total = JobTotals(dataset.info, judge_text(judge.describe()))
    with few_collections(), Progress(len(rows), options.quiet, "row", is_kept=False) as progress:
        for window in windows(dataset.pick(rows), method, judge):
            total.add(window, judge)
            progress.advance(len(window))
    return total


class JobTotals:
    """Sums over the windows of a job; memory is that of the largest, for windows run one after another.

    Attributes:
        first: the first row that can be labelled.
        spread: samples from all over the input.
    """

    def __init__(self, info: DatasetInfo, judge: str) -> None:
        """judge: what would label it, for people."""
        self._info, self._judge = info, judge
        self.rows = 0
        self.rejections = Rejections()
        self.prompts = self.prompt_tokens = self.unique_tokens = self.batches = 0
        self.peak_bytes = self.weight_bytes = self.streamed_bytes = 0
        self.compute_share = 1.0
        self.prompts_of_rows: set[int] = set()
        self.first: Waiting | None = None
        self.spread: Spread[list[Sample]] = Spread()

    def add(self, window: Sequence[Entry], judge: AnyJudge) -> None:
        """A window of rows, as it would be run."""
        self.rows += len(window)
        waiting = [entry for entry in window if isinstance(entry, Waiting)]
        for entry in window:
            if isinstance(entry, Rejected):
                self.rejections.add(self._info.place(entry.line), entry.reason)
        if not waiting:
            return
        self.first = self.first or waiting[0]
        self.spread.add([entry.sample for entry in waiting])
        plan = judge.plan([request for entry in waiting for request in entry.encoded])
        self.prompts_of_rows.update(len(entry.encoded) for entry in waiting)
        self.prompts += plan.prompts
        self.prompt_tokens += plan.prompt_tokens
        self.unique_tokens += plan.rows
        self.batches += plan.batches
        self.peak_bytes = max(self.peak_bytes, plan.peak_bytes)
        self.weight_bytes, self.streamed_bytes = plan.weight_bytes, plan.streamed_bytes
        self.compute_share = min(self.compute_share, plan.compute_share)

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        names = ("rows", "prompts", "prompt_tokens", "unique_tokens", "batches", "weight_bytes", "peak_bytes")
        rejected = {"rejected": self.rejections.count, "rejected_by_reason": self.rejections.kinds}
        about = {"input": self._info.about, "judge": self._judge}
        return about | {name: getattr(self, name) for name in names} | rejected

    def lines(self) -> list[tuple[str, str]]:
        rejected = self.rejections.count
        rows = f"{self.rows:,}" + (f", {rejected:,} of them to be rejected" if rejected else "")
        lines = [
            ("input", one_line(self._info.about)),
            ("judge", one_line(self._judge)),
            ("rows", rows),
            *self.rejections.lines(),
            ("prompts", f"{self.prompts:,}{self._prompts_of_a_row()}"),
            ("prompt tokens", f"{self.prompt_tokens:,}"),
        ]
        if self.unique_tokens:
            sharing = self.prompt_tokens / self.unique_tokens
            lines += [
                ("unique tokens", f"{self.unique_tokens:,}"),
                ("sharing", f"{sharing:.2f}x"),
                ("batches", f"{self.batches:,}"),
                ("memory", f"{self.weight_bytes / _MIB:,.0f} MiB of weights"),
                ("memory", f"{self.peak_bytes / _MIB:,.0f} MiB at the peak beyond them"),
                ("layers", self._layers()),
            ]
        return lines

    def _layers(self) -> str:
        if not self.streamed_bytes:
            return "resident"
        size = f"{self.streamed_bytes / _MIB:,.0f} MiB copied in every batch"
        return f"streamed, {size}; about {self.compute_share:.0%} of the speed of resident ones"

    def _prompts_of_a_row(self) -> str:
        few, many = min(self.prompts_of_rows, default=0), max(self.prompts_of_rows, default=0)
        return f", {few} to {many} a row" if few < many else f", {many:,} a row" if many else ""


def _of_first(method: Method, first: Waiting, prompts: int) -> list[tuple[str, str]]:
    """What there is to write for all `prompts`, as for the first; each label's text, and the token ids that it becomes
    at the real answer position of the first.
    """
    request = method.requests(first.sample)[0]
    pairs = zip(request.labels, first.encoded[0].labels, strict=True)
    lines = [("label ids", f"{one_line(json.dumps(text, ensure_ascii=False))} = {ids}") for text, ids in pairs]
    if request.rationale is None:
        return lines
    asked = request.rationale.reasoning
    number = prompts * asked.n
    most = f"of at most {asked.max_new_tokens:,} tokens: {number * asked.max_new_tokens:,} tokens to generate at most"
    return [("rationales", f"{number:,} {most}"), *lines]


def _warnings(method: Method) -> list[tuple[str, str]]:
    """What makes prompts share less than they could: in its template, or in those of the methods it is made of."""
    return [("warning", one_line(text)) for template in templates_of(method) for text in template.warnings()]
