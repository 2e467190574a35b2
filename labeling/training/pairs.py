"""What a reward model is trained on: pairs with the probability that one response is better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.folder import FILE, file_or_folder, folder_of
from preftree.labeling.data.labels_file import LABELS, local_labels
from preftree.labeling.data.source import File
from preftree.labeling.export.comparison import Comparison, Selection, reader_of
from preftree.labeling.export.reading import compared_rows
from preftree.labeling.options.training import TrainOptions
from preftree.labeling.runs.recorded import finished_run, labelled_input
from preftree.labeling.types import Message, Pair, Rejected

_INSTRUCTIONS = "the file that `preftree instructions` has written"


@dataclass(frozen=True)
class TrainingPair:
    """Two responses to a prompt.

    Attributes:
        prompt: the conversation so far.
        better: the response that the judge prefers, A where it prefers none.
        worse: the other one.
        p: the judge's probability that `better` is better, from 0.5; 1 where it gives none.
        gold: whether a human prefers `better`; None where that is not known, or a tie.
        principles: that the pair is judged by, as they are stated; () without.
    """

    prompt: tuple[Message, ...]
    better: str
    worse: str
    p: float
    gold: bool | None = None
    principles: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairSource:
    """Where pairs come from.

    Attributes:
        pairs: reads them; those left out are counted in what it is given.
        is_soft: whether to train on p, ties included, and not on verdicts.
        record: for the reward model's manifest.
    """

    pairs: Callable[[Selection], Iterator[TrainingPair]]
    is_soft: bool
    record: Mapping[str, Any]


def source_of(options: TrainOptions) -> PairSource:
    """Raises PreftreeError for a run that is not there, not finished, or whose labels are no probabilities."""
    folder, name = file_or_folder(options.run)
    if options.principled:
        if name is None:
            raise UsageError(f"--principled trains on {_INSTRUCTIONS}, and {options.run} is a directory")
        return _instructions(options.run)
    if name is not None and folder.kind(name) == FILE:
        raise UsageError(f"{options.run} is a file; name the directory of a run, or --principled with {_INSTRUCTIONS}")
    return _run(options)


def _run(options: TrainOptions) -> PairSource:
    folder = folder_of(options.run)
    run = finished_run(folder)
    method = run["method"].get("name")
    reader = reader_of(run, all_pairs=method == "ranking")
    is_soft = options.labels == "soft"
    if is_soft and not reader.has_probabilities:
        none = f"labels of method {method} are scores and no probabilities"
        raise UsageError(f"{none}; train on verdicts: --labels hard")
    labels = local_labels(folder)
    dataset = labelled_input(run, options.input)

    def pairs(selection: Selection) -> Iterator[TrainingPair]:
        for sample, one in compared_rows(labels, dataset, reader, selection):
            yield _oriented(one, sample.gold if isinstance(sample, Pair) else None)

    judge = {name: run["scorer"].get(name) for name in ("model", "model_sha256", "dtype")}
    template = run["method"].get("template") or {}
    record = {
        "run": str(folder),
        "labels_sha256": File(labels, LABELS).sha256(),
        "method": method,
        "judge": judge | {"template": template.get("name"), "template_sha256": template.get("sha256")},
    }
    return PairSource(pairs, is_soft, record)


def _oriented(one: Comparison, gold: str | None) -> TrainingPair:
    p_a = {"a": 1.0, "b": 0.0, "tie": 0.5}[one.verdict] if one.p_a is None else one.p_a
    agrees = None if gold not in ("a", "b") else (gold == "b") == (p_a < 0.5)
    if p_a < 0.5:
        return TrainingPair(one.prompt, one.response_b, one.response_a, 1.0 - p_a, agrees)
    return TrainingPair(one.prompt, one.response_a, one.response_b, p_a, agrees)


def _instructions(path: str) -> PairSource:
    dataset = Dataset.open(path)

    def pairs(selection: Selection) -> Iterator[TrainingPair]:
        for item in dataset.read():
            if isinstance(item, Rejected):
                selection.leave_out(item.reason.partition(":")[0])
                continue
            statements, chosen = item.extra.get("principles"), item.extra.get("chosen")
            is_list = isinstance(statements, list) and all(isinstance(one, str) for one in statements)
            if not isinstance(item, Pair) or not is_list or not statements or chosen not in ("a", "b"):
                raise InputError(f"{path}, line {item.line}: no preference under principles; name {_INSTRUCTIONS}")
            one = Comparison(item.id, item.prompt, item.response_a, item.response_b, chosen)
            if selection.takes(one):
                yield TrainingPair(one.prompt, one.chosen, one.rejected, 1.0, None, tuple(statements))

    return PairSource(pairs, False, {"instructions": path, "sha256": dataset.sha256, "method": "instructions"})
