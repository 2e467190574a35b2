"""Preference instructions: training data for a reward model that follows principles (SALMON, Sun et al. 2023).

Each pass over the pairs draws principles for each, negates some, and lets the one with the largest score decide.
FILE holds nothing but preferences, a JSON object a line, those of one pair behind each other:

    id, pass, seed                   of the pair; from 1; with these, all that was drawn can be drawn again
    prompt, response_a, response_b   as labelled
    principles                       statements to show, in the order drawn: the negative one where it is negated
    names, signs                     of these principles; -1 where it is negated, else 1
    scores                           of A over B, as compared: divided by the variance, before negation
    decided_by                       name of the principle that decided
    chosen, flipped                  "a" or "b"; whether noise has made it the other one

FILE.run.json holds the options, the labels and the input with their sha256, the principles with their variances, and
counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError, UsageError
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import RUN, check_out_file
from preftree.labeling.data.row import prompt_value
from preftree.labeling.data.source import File
from preftree.labeling.export.drawing import Recipe, decide, draw
from preftree.labeling.export.salmon_labels import SalmonLabels
from preftree.labeling.options.export import InstructionOptions
from preftree.labeling.principles.principle import Principle
from preftree.labeling.report.text import aligned
from preftree.labeling.runs.manifest import version
from preftree.labeling.runs.recorded import labelled_input
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import Pair


@dataclass
class Tally:
    """pairs, rejected: rows with labels and without. ties: preferences dropped because all their scores were 0.

    decided_by: preferences by the name of the principle that decided, every principle in it.
    """

    decided_by: dict[str, int]
    pairs: int = 0
    rejected: int = 0
    preferences: int = 0
    flipped: int = 0
    ties: int = 0

    def add(self, preference: dict[str, Any] | None) -> None:
        if preference is None:
            self.ties += 1
            return
        self.preferences += 1
        self.flipped += preference["flipped"]
        self.decided_by[preference["decided_by"]] += 1

    def dropped(self) -> list[str]:
        reasons = ((self.ties, "preference", "every principle drawn has score 0"), (self.rejected, "row", "no labels"))
        return [f"{count(number, noun)}: {reason}" for number, noun, reason in reasons if number]


def write_instructions(options: InstructionOptions) -> list[str]:
    """Writes `out` and its record, both or neither, and returns what to tell a person. Raises PreftreeError.

    Two streaming passes over the labels: variances, then preferences.
    """
    labels = SalmonLabels(options.labels)
    recipe = _recipe(options, labels)
    out = Path(options.out)
    record_path = out.with_name(f"{out.name}.{RUN}")
    for path in (out, record_path):
        check_out_file(path, options.overwrite)
    dataset = labelled_input(labels.run, options.input)
    for path in (*(file.path for file in dataset.files), labels.path, labels.path.with_name(RUN)):
        if path.resolve() in (out.resolve(), record_path.resolve()):
            raise OutputError(f"{path} is what instructions are made from; name another --out")
    variances = labels.variances()
    tally = Tally(dict.fromkeys(variances, 0))
    with drafts(out, record_path) as (rows, record):
        for made in _preferences(options, labels, dataset, recipe, variances, tally):
            rows.file.write(json.dumps(made, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        if not tally.preferences:
            raise InputError(f"{options.labels} leaves nothing to write; {'; '.join(tally.dropped()) or 'no rows'}")
        text = json.dumps(_record(options, labels, dataset, variances, tally), indent=2, ensure_ascii=False)
        record.file.write(text.encode("utf-8", "backslashreplace") + b"\n")
    return _lines(options, tally, variances, (out, record_path))


def preference(
    pair: Pair, scores: Sequence[float], principles: Sequence[Principle], recipe: Recipe, turn: int
) -> dict[str, Any] | None:
    """A row of the output, or None where every principle drawn has the score 0. scores: of all principles."""
    drawn = draw(recipe, turn, pair.id)
    compared = [scores[index] for index in drawn.chosen]
    decision = decide(compared, drawn.negated)
    if decision is None:
        return None
    decider, side = decision
    shown = [principles[index] for index in drawn.chosen]
    return {
        "id": pair.id,
        "pass": turn,
        "seed": recipe.seed,
        "prompt": prompt_value(pair.prompt),
        "response_a": pair.response_a,
        "response_b": pair.response_b,
        "principles": [one.stated(no) for one, no in zip(shown, drawn.negated, strict=True)],
        "names": [one.name for one in shown],
        "signs": [-1 if negated else 1 for negated in drawn.negated],
        "scores": compared,
        "decided_by": shown[decider].name,
        "chosen": side if not drawn.flipped else "b" if side == "a" else "a",
        "flipped": drawn.flipped,
    }


def _recipe(options: InstructionOptions, labels: SalmonLabels) -> Recipe:
    text = options.num_principles
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not number and text != "geometric":
        raise UsageError(f"--num-principles must be geometric or a whole number from 1, not {one_line(text)}")
    if options.negate:
        for principle in labels.principles:
            if principle.weight and principle.negative is None:
                way_out = "use --negate 0, or label with a principle file that gives it a `negative`"
                raise UsageError(f"principle {principle.name!r} has no negative statement; {way_out}")
    weights = tuple(principle.weight for principle in labels.principles)
    recipe = Recipe(weights, number or None, options.negate, options.noise, options.seed)
    if max(number, 1) > recipe.drawable:
        have = count(recipe.drawable, "principle")
        raise UsageError(f"--num-principles is {text}, and {options.labels} has {have} with a weight above 0")
    return recipe


def _preferences(
    options: InstructionOptions,
    labels: SalmonLabels,
    dataset: Dataset,
    recipe: Recipe,
    variances: dict[str, float],
    tally: Tally,
) -> Iterator[dict[str, Any]]:
    scales = [(options.variance_scaling and variances[principle.name]) or 1.0 for principle in labels.principles]
    for pair, compared in labels.pairs(dataset):
        if pair is None:
            tally.rejected += 1
            continue
        tally.pairs += 1
        scores = [score / scale for score, scale in zip(compared, scales, strict=True)]
        for turn in range(1, options.passes + 1):
            made = preference(pair, scores, labels.principles, recipe, turn)
            tally.add(made)
            if made is not None:
                yield made


def _record(
    options: InstructionOptions, labels: SalmonLabels, dataset: Dataset, variances: dict[str, float], tally: Tally
) -> dict[str, Any]:
    return {
        "versions": {"preftree": version()},
        "options": asdict(options),
        "labels": {"path": labels.place, "sha256": File(labels.path, str(labels.path)).sha256()},
        "input": dataset.record(),
        "principles": [{**one.record(), "variance": variances[one.name]} for one in labels.principles],
        "totals": asdict(tally),
    }


def _lines(
    options: InstructionOptions, tally: Tally, variances: dict[str, float], paths: tuple[Path, Path]
) -> list[str]:
    passes = "1 pass" if options.passes == 1 else f"{options.passes:,} passes"
    text = f"{count(tally.preferences, 'preference')} of {count(tally.pairs, 'pair')} in {passes}"
    lines = [("instructions", f"{text}, {tally.flipped:,} flipped by noise")]
    lines += [("dropped", reason) for reason in tally.dropped()]
    for name, variance in variances.items():
        if options.variance_scaling and not variance:
            lines.append(("not scaled", f"{one_line(name)}: its scores are all the same"))
    lines += [("files", one_line(str(path))) for path in paths]
    return aligned(lines).split("\n")
