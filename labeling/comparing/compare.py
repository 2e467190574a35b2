"""`preftree compare`: a run for each model that asks about all combinations, then figures of what came back."""

from __future__ import annotations

import gc
import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, ModelError, UsageError
from preftree.labeling.comparing.combinations import Combinations, combinations_of, models_of
from preftree.labeling.comparing.comparison import Comparison, Key, compared
from preftree.labeling.comparing.costs import Cost, cost_of, pairs_to_plan
from preftree.labeling.comparing.file import COMPARISON, write_comparison
from preftree.labeling.comparing.judged import Judged, in_common, judged
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.folder import folder_of
from preftree.labeling.data.inputs import STANDARD_INPUT
from preftree.labeling.data.labels_file import RUN, check_out_file
from preftree.labeling.data.selection import rows_of, selection_of
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.registry import SEVERAL
from preftree.labeling.methods.several import NO_GOLD
from preftree.labeling.options.comparing import CompareOptions
from preftree.labeling.options.inputs import InputOptions
from preftree.labeling.options.model import EngineOptions
from preftree.labeling.options.option import declared
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.pinning import pinned_inputs
from preftree.labeling.runs.recorded import read_run
from preftree.labeling.runs.run import run_label
from preftree.labeling.terminal import count, one_line

_LOGGER = logging.getLogger("preftree")
_ODD = re.compile(r"[^\w.-]+")


def compare(options: CompareOptions, judge_factory: Callable[..., AnyJudge] | None = None) -> Comparison:
    """Judge the rows with gold, or resume, and write what came of it into the directory of `options`.

    A model that does not load is named in the notes, and the others are compared.

    Raises:
        PreftreeError: there is no gold, a combination cannot be asked, or no model loads.
        Interrupted: the same command resumes.
    """
    models, combinations = models_of(options), combinations_of(options)
    out = _out(options)
    if STANDARD_INPUT in options.input:
        raise UsageError("a comparison reads its input once for each model: name a file instead of -")
    # One state of the input for all models, whatever the hub has by the time the next one loads.
    options = replace(options, input=pinned_inputs(options.input, _previous(options, models), options.offline))
    dataset = Dataset.open(options.input, options.mapping, options.offline)
    if not dataset.info.has_gold:
        raise InputError(
            f"{dataset.name} has no gold to compare with; add a column gold (a or b) to some rows, or name the column "
            "that says which response is better with --map gold=COLUMN"
        )
    notes = [f"left out: {name}: {reason}" for name, reason in combinations.left_out]
    runs = dict(_runs(options, combinations, models, judge_factory, notes))
    found = _found(runs, combinations, dataset, notes)
    costs = _costs(options, combinations, dataset, runs, judge_factory)
    result = Comparison(
        compared(found, costs, options.seed),
        sum(summary.prompt_tokens for summary in runs.values()),
        sum(summary.unique_tokens for summary in runs.values()),
        tuple(notes),
        tuple(model for model in models if model not in runs),
    )
    write_comparison(out / COMPARISON, result)
    return result


def _out(options: CompareOptions) -> Path:
    """The directory. What a comparison that is there has written it may write again."""
    if "://" in options.out:
        raise UsageError(f"--out must be a directory of this machine, not {options.out}")
    out = Path(options.out)
    if options.html is not None and (out.is_dir() or Path(options.html).parent != out):
        check_out_file(Path(options.html), options.overwrite or (out / COMPARISON).is_file())
    return out


def _previous(options: CompareOptions, models: Sequence[str]) -> dict[str, Any] | None:
    """The record of the first run that is there already; None where none is to be resumed."""
    folders = [] if options.overwrite else [Path(options.out) / directory_of(model, models) for model in models]
    there = next((folder for folder in folders if (folder / RUN).is_file()), None)
    return None if there is None else read_run(folder_of(there))


def _runs(
    options: CompareOptions,
    combinations: Combinations,
    models: Sequence[str],
    judge_factory: Callable[..., AnyJudge] | None,
    notes: list[str],
) -> Iterator[tuple[str, RunSummary]]:
    """One for each model that loads. ModelError where none does."""
    failed: list[ModelError] = []
    method = combinations.method()
    for model in models:
        try:
            summary = run_label(_run_options(options, model, models), judge_factory, lambda _: method)
            if not summary.ok:
                raise ModelError(f"no pair could be judged with {model}: {summary.rejections.by_kind()}")
        except ModelError as error:
            if len(models) == 1:
                raise
            failed.append(error)
            _LOGGER.warning(f"{one_line(model)} is left out: {one_line(str(error))}")
            notes.append(f"left out: model {one_line(model)}: {one_line(str(error))}")
        else:
            yield model, summary
        gc.collect()  # the memory of this model is for the next
    if len(failed) == len(models):
        raise failed[0]


def _run_options(options: CompareOptions, model: str, models: Sequence[str]) -> LabelOptions:
    names = [*declared(EngineOptions), *declared(InputOptions), "quiet", "overwrite"]
    same = {name: getattr(options, name) for name in names}
    if options.sample is not None:
        same["seed"] = options.seed
    out = str(Path(options.out) / directory_of(model, models))
    # Little label mass is a figure of the comparison, and no reason to stop.
    return LabelOptions(method=SEVERAL, model=model, out=out, allow_low_mass=True, **same)


def directory_of(model: str, models: Sequence[str]) -> str:
    """What the run of a model is called: the end of its path, with a hash of all of it where several end alike."""
    names = [_ODD.sub("-", Path(one).name) or "model" for one in models]
    mine = names[models.index(model)]
    return mine if names.count(mine) == 1 else f"{mine}-{hashlib.sha256(model.encode()).hexdigest()[:8]}"


def _found(
    runs: dict[str, RunSummary], combinations: Combinations, dataset: Dataset, notes: list[str]
) -> dict[Key, Judged]:
    """What every combination said. InputError where the models have no pair in common."""
    found: dict[Key, Judged] = {}
    for model, summary in runs.items():
        by_name = judged(Path(summary.labels))
        found |= {(model, one): by_name[one.name] for one in combinations.made}
        notes += [note for note in _not_judged(model, summary) if note not in notes]
    if not next(iter(in_common(found).values())).ids:
        raise InputError(f"no pair of {dataset.name} was judged by every model; {'; '.join(notes)}")
    return found


def _not_judged(model: str, summary: RunSummary) -> Iterator[str]:
    """Rows without gold, and rows that this model rejected."""
    for kind, number in summary.rejections.kinds.items():
        if kind == NO_GOLD:
            yield f"not run: {count(number, 'row')} without a gold of a or b"
        else:
            yield f"not compared: {count(number, 'row')} rejected with {one_line(model)}: {one_line(kind)}"


def _costs(
    options: CompareOptions,
    combinations: Combinations,
    dataset: Dataset,
    runs: dict[str, RunSummary],
    judge_factory: Callable[..., AnyJudge] | None,
) -> dict[Key, Cost]:
    pairs = pairs_to_plan(dataset, rows_of(dataset.info.rows, **selection_of(vars(options))))
    found: dict[Key, Cost] = {}
    for model, summary in runs.items():
        then = read_run(folder_of(Path(summary.labels).parent))["options"]["model"]  # with its commit
        judge = (judge_factory or load_judge)(_run_options(options, then, (then,)), weights=False)
        rate = summary.rate(summary.unique_tokens)
        for one in combinations.made:
            found[model, one] = cost_of(one, pairs, dataset, judge, rate)
    return found
