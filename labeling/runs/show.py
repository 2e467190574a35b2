"""Rows of a run for people: one with everything that was asked and answered, or several that are worth reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError, PreftreeError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.options.reading import ShowOptions
from preftree.labeling.rationales import Rationale
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.runs.recorded import PANEL, labelled_input, options_again
from preftree.labeling.runs.view import RunView, view
from preftree.labeling.terminal import count, heading, one_line, visible
from preftree.labeling.types import Rejected, Sample


@dataclass(frozen=True)
class Asked:
    """A request of a labelled row. prompt: its text. rationales, answer: what came back; answer: None if unknown."""

    title: str
    prompt: str
    rationales: tuple[Rationale, ...]
    answer: str | None

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "title": self.title,
            "prompt": self.prompt,
            "rationales": [one.text for one in self.rationales],
            "answer": self.answer,
        }

    def lines(self) -> Iterator[str]:
        title = one_line(self.title)
        yield heading(f"prompt, {title}")
        yield visible(self.prompt)
        for number, rationale in enumerate(self.rationales, 1):
            which = f" {number} of {len(self.rationales)}" if len(self.rationales) > 1 else ""
            size = count(rationale.tokens, "token") + (", cut off there" if rationale.cut else "")
            yield heading(f"rationale{which}, {title}: {size}")
            yield visible(rationale.text)
        if self.answer is not None:
            yield heading(f"answer, {title}: {self.answer}")


def show_lines(
    options: ShowOptions,
    judge_factory: Callable[..., AnyJudge] | None = None,
    method_factory: Callable[..., Method] | None = None,
) -> Result:
    """Raises OutputError where the run cannot be read and InputError for an unknown id."""
    with view(options.run, options.input) as found:
        if options.id is not None:
            return _row(found, options.id, options.input, judge_factory, method_factory)
        from preftree.labeling.runs.reading import row_list

        return row_list(found, options)


def _row(
    found: RunView,
    identity: str,
    input_path: str | None,
    judge_factory: Callable[..., AnyJudge] | None,
    method_factory: Callable[..., Method] | None,
) -> Result:
    """One row: its label, then its prompts, made again from input and recorded template.

    Prompts that cannot be made again are replaced by a line that says why.
    """
    rows = _find_rows(found.labels, identity)
    if not rows:
        among = f" among the {count(found.done, 'row')} so far" if found.is_partial else ""
        raise InputError(f"no row with id {one_line(identity)}{among}")
    lines, data = [aligned(_label_lines(row)) for row in rows], {"rows": rows, "prompts": []}
    labelled = next((row for row in rows if row["status"] == "ok"), None)
    if labelled is None:
        return Result(lines, data)
    if found.record["method"].get("name") == PANEL:
        runs = found.record["panel"]["runs"]
        lines.append(f"\nwhat its judges read is in their runs: {', '.join(map(one_line, runs))}")
        return Result(lines, data | {"runs": runs})
    try:
        prompts = _prompts_again(found.record, labelled, input_path, judge_factory, method_factory)
    except PreftreeError as error:
        missing = one_line(str(error))
        return Result([*lines, f"\nthe prompts cannot be shown: {missing}"], data | {"missing": missing})
    lines += [line for asked in prompts for line in asked.lines()]
    return Result(lines, data | {"prompts": [asked.record() for asked in prompts]})


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
    """Every column: the label's own in full precision, then what passed through, long texts included. As JSON but for
    strings.
    """
    lines = []
    for name, value in row.items():
        if value is None:
            continue
        lines.append((one_line(name), visible(value if isinstance(value, str) else json.dumps(value, default=str))))
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
    nowhere = {"device": "auto", "devices": None, "dtype": "auto", "memory_fraction": None, "stream_layers": "auto"}
    return options_again(JudgeOptions, run, input=dataset.paths, **nowhere, **own)
