"""For people: what a job would ask (`plan_lines`), and what a finished one asked and got (`show_lines`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError, PreftreeError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import LABELS
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options import JudgeOptions
from preftree.labeling.pipeline import Waiting, check_kinds, windows
from preftree.labeling.rationales import Rationale
from preftree.labeling.report.text import aligned, judge_text
from preftree.labeling.runs.recorded import finished_run, labelled_input, options_again
from preftree.labeling.terminal import count, one_line, visible
from preftree.labeling.types import Rejected, Sample

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
        yield _heading(f"first prompt: {one_line(first.sample.id)}, {one_line(request.title)}")
        yield visible(scorer.render(request))
        if request.rationale is not None:
            yield _heading("then, after the rationale")
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


@dataclass(frozen=True)
class Asked:
    """A request of a labelled row. prompt: its text. rationales, answer: what came back; answer: None if unknown."""

    title: str
    prompt: str
    rationales: tuple[Rationale, ...]
    answer: str | None

    def lines(self) -> Iterator[str]:
        title = one_line(self.title)
        yield _heading(f"prompt, {title}")
        yield visible(self.prompt)
        for number, rationale in enumerate(self.rationales, 1):
            which = f" {number} of {len(self.rationales)}" if len(self.rationales) > 1 else ""
            size = count(rationale.tokens, "token") + (", cut off there" if rationale.cut else "")
            yield _heading(f"rationale{which}, {title}: {size}")
            yield visible(rationale.text)
        if self.answer is not None:
            yield _heading(f"answer, {title}: {self.answer}")


def show_lines(
    directory: str | Path,
    identity: str,
    input_path: str | None = None,
    judge_factory: Callable[..., AnyJudge] | None = None,
    method_factory: Callable[..., Method] | None = None,
) -> Iterator[str]:
    """One row of a finished run: its label, then its prompts, made again from input and recorded template.

    Raises OutputError where the run cannot be read and InputError for an unknown id. Prompts that cannot be
    made again are replaced by a line that says why.
    """
    directory = Path(directory)
    run = finished_run(directory, shards=True)
    rows = _find_rows(directory / LABELS, identity)
    if not rows:
        raise InputError(f"no row with id {one_line(identity)} in {directory / LABELS}")
    for row in rows:
        yield aligned(_label_lines(row))
    labelled = next((row for row in rows if row["status"] == "ok"), None)
    if labelled is None:
        return
    try:
        prompts = _prompts_again(run, labelled, input_path, judge_factory, method_factory)
    except PreftreeError as error:
        yield f"\nthe prompts cannot be shown: {one_line(str(error))}"
        return
    for asked in prompts:
        yield from asked.lines()


def _find_rows(path: Path, identity: str) -> list[dict[str, Any]]:
    """Rows of one id: several where later ones were rejected as duplicates. Reads row groups one by one."""
    import pyarrow as pa
    from pyarrow import dataset

    try:
        table = dataset.dataset(str(path), format="parquet").to_table(filter=dataset.field("id") == identity)
    except FileNotFoundError:
        raise OutputError(f"no such file: {path}; label the input again") from None
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot read {path}: {error}") from error
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _label_lines(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Every column: the label's own in full precision, then what passed through, long texts included."""
    lines = []
    for name, value in row.items():
        if value is None:
            continue
        lines.append((one_line(name), visible(value) if isinstance(value, str) else str(value)))
    return lines


def _prompts_again(
    run: dict[str, Any],
    row: dict[str, Any],
    input_path: str | None,
    judge_factory: Callable[..., AnyJudge] | None,
    method_factory: Callable[..., Method] | None,
) -> list[Asked]:
    """What was asked about a row. Raises PreftreeError unless they are the ones that were asked."""
    dataset = labelled_input(run, input_path)
    options = _options_again(run, dataset)
    sample = _find_sample(dataset, row["id"])
    method = (method_factory or open_method)(options, run["method"])
    scorer = (judge_factory or load_judge)(options, weights=False)
    requests = method.requests(sample)
    tokens = sum(len(scorer.encode(request).ids) for request in requests)
    if tokens != row["prompt_tokens"]:
        raise InputError(
            f"model {options.model} makes {count(tokens, 'token')} of them, not {row['prompt_tokens']:,} as then; "
            "it or this program has changed"
        )
    answers: list[str | None] = [*method.answers(row)] or [None] * len(requests)
    written = method.rationales(row) or [()] * len(requests)
    return [
        Asked(request.title, scorer.render(request), rationales, answer)
        for request, rationales, answer in zip(requests, written, answers, strict=True)
    ]


def _find_sample(dataset: Dataset, identity: str) -> Sample:
    for item in dataset.read():
        if not isinstance(item, Rejected) and item.id == identity:
            return item
    raise InputError(f"no good row with id {one_line(identity)} in {dataset.name}")


def _options_again(run: dict[str, Any], dataset: Dataset) -> JudgeOptions:
    """Those of a run; what says where the model ran is left out, as reading needs none of it."""
    rendering = run["scorer"].get("rendering")
    own = {"rendering": rendering} if rendering in ("chat", "plain") else {}
    nowhere = {"device": "auto", "dtype": "auto", "memory_fraction": None}
    return options_again(JudgeOptions, run, input=dataset.paths, **nowhere, **own)


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
    from preftree.labeling.prompts.catalogue import Template

    parts = [getattr(part, "template", part) for part in vars(method).values()]
    templates = [part for part in parts if isinstance(part, Template)]
    return [("warning", one_line(text)) for template in templates for text in template.warnings()]


def _heading(text: str) -> str:
    return f"\n---- {text} ----"
