"""What labelling a file takes, without running the model: tokens, sharing, memory, and the first prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from preftree.labeling.data.dataset import Dataset
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import open_method, templates_of
from preftree.labeling.options import JudgeOptions
from preftree.labeling.pipeline import Waiting, check_kinds, windows
from preftree.labeling.report.text import aligned, judge_text
from preftree.labeling.terminal import heading, one_line, visible

_MIB = 1024**2


def plan_lines(
    options: JudgeOptions,
    judge_factory: Callable[..., AnyJudge] | None = None,
    method_factory: Callable[..., Method] | None = None,
) -> Iterator[str]:
    """What labelling a file takes, then its first prompt. Runs no model, in constant memory."""
    method = (method_factory or open_method)(options)
    dataset = Dataset.open(options.input, options.mapping)
    found = dataset.info
    check_kinds(found, method)
    scorer = (judge_factory or load_judge)(options, weights=False)
    total = JobTotals(found.about, judge_text(scorer.describe()))
    first: Waiting | None = None
    for window in windows(dataset.read(options.limit, found.repeated), method, scorer):
        waiting = [entry for entry in window if isinstance(entry, Waiting)]
        total.rows += len(window)
        total.rejected += len(window) - len(waiting)
        if waiting:
            first = first or waiting[0]
            total.add(scorer.plan([request for entry in waiting for request in entry.encoded]))
            total.prompts_of_rows.update(len(entry.encoded) for entry in waiting)
    yield aligned(total.lines() + (_of_first(method, first, total.prompts) if first else []) + _warnings(method))
    if first is None:
        yield "\nno row of the input can be labelled"
    else:
        request = method.requests(first.sample)[0]
        yield heading(f"first prompt: {one_line(first.sample.id)}, {one_line(request.title)}")
        yield visible(scorer.render(request))
        if request.rationale is not None:
            yield heading("then, after the rationale")
            yield visible(request.rationale.ending)


class JobTotals:
    """Sums over the windows of a job; memory is that of the largest, for windows run one after another."""

    def __init__(self, about: str, judge: str) -> None:
        """about: the input, for people. judge: what would label it, for people, too."""
        self._about, self._judge = about, judge
        self.rows = self.rejected = 0
        self.prompts = self.prompt_tokens = self.unique_tokens = self.batches = 0
        self.peak_bytes = self.weight_bytes = 0
        self.prompts_of_rows: set[int] = set()

    def add(self, plan: Any) -> None:
        self.prompts += plan.prompts
        self.prompt_tokens += plan.prompt_tokens
        self.unique_tokens += plan.rows
        self.batches += plan.batches
        self.peak_bytes = max(self.peak_bytes, plan.peak_bytes)
        self.weight_bytes = plan.weight_bytes

    def lines(self) -> list[tuple[str, str]]:
        rows = f"{self.rows:,}" + (f", {self.rejected:,} of them to be rejected" if self.rejected else "")
        lines = [
            ("input", one_line(self._about)),
            ("judge", one_line(self._judge)),
            ("rows", rows),
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
            ]
        return lines

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
