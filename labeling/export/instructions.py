"""Preference instructions: training data for a reward model that follows principles (SALMON, Sun et al. 2023).

Each pass over the pairs draws principles for each, negates some, and lets the one with the largest score decide.
FILE holds nothing but preferences, a JSON object a line, those of one pair after each other:

    id, pass, seed                   of the pair; from 1; with these, all that was drawn can be drawn again
    prompt, response_a, response_b   as labelled, but for --cut-at and --random-order
    principles                       statements to show, in the order drawn: the negative one where it is negated
    names, signs                     of these principles; -1 where it is negated, else 1
    scores                           of A over B, as compared: divided by the variance, before negation
    decided_by                       name of the principle that decided; null where a rule about texts did
    rule                             "language" or "refusal phrase" where that decided, else null
    chosen, flipped                  "a" or "b"; whether noise has made it the other one
    swapped                          whether A is the response that was labelled as B, which scores and chosen follow

In this order, where S is SALMON's released code:

    --min-length   leaves out pairs with a shorter response, before it is cut. S: 16
    --cut-at       ends responses before a marker, without white space at either end. S: "###"
    score          mean of both orders, 0 where they disagree; with --min-score, 0 where it is nearer to 0 than that.
                   It is divided by the variance of all scores in single orders, of the pairs that are long enough
    decision       the largest absolute score; where all are 0, no preference is written, whatever other rules say
    --refusal-phrase   where one response contains a phrase, the other wins, in a share of the passes. S: "As an AI
                   language model", 0.5
    --language     where one response is in the language of the prompt's last message, it wins, whatever phrases say;
                   where none is, the pair is left out. Texts whose language cannot be told are in every one. S: yes
    noise          flips 0.1 of the labels, 0.25 of those that a refusal phrase or a language decided. S: the same
    --random-order   exchanges A and B in half of the rows. S: yes

With --to trl a line is id ("ID/PASS"), chosen and rejected: the conversations, principles included, that a reward model
reads in --layout. Through the same chat template `preftree reward` gives the model the same token ids.

FILE.run.json holds the options, the labels and the input with their sha256, the principles as they were shown with
their variances, and counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError, UsageError
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import RUN, check_out_file
from preftree.labeling.data.source import File
from preftree.labeling.export.drawing import Recipe
from preftree.labeling.export.preference import Tally, conversations, preference
from preftree.labeling.export.salmon_labels import SalmonLabels
from preftree.labeling.export.text_rules import DETECTOR, TextRules, detector_version
from preftree.labeling.options.export import InstructionOptions
from preftree.labeling.principles.principle import Principle
from preftree.labeling.principles.sets import load_principles
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.runs.manifest import version
from preftree.labeling.runs.recorded import labelled_input
from preftree.labeling.terminal import count, one_line


@dataclass(frozen=True)
class _Job:
    """What instructions are made of.

    Attributes:
        options: as they were chosen.
        labels: the scores.
        dataset: the texts.
        principles: those of the labels, in their order, as they are shown.
        recipe: the laws of what is drawn.
        rules: about texts.
    """

    options: InstructionOptions
    labels: SalmonLabels
    dataset: Dataset
    principles: tuple[Principle, ...]
    recipe: Recipe
    rules: TextRules

    @classmethod
    def of(cls, options: InstructionOptions) -> _Job:
        """Raises PreftreeError for whatever does not fit together."""
        labels = SalmonLabels(options.labels)
        principles = _principles(options, labels.principles)
        recipe = _recipe(options, principles)
        return cls(options, labels, labelled_input(labels.run, options.input), principles, recipe, TextRules(options))

    def variances(self) -> dict[str, float]:
        """By principle, over the pairs that are long enough."""
        if self.options.min_length:
            return self.labels.variances_of(self.dataset, self.rules.takes)
        return self.labels.variances()

    def preferences(self, variances: Mapping[str, float], tally: Tally) -> Iterator[dict[str, Any]]:
        """The rows of the output, in all passes; counts go to `tally`."""
        scaling = self.options.variance_scaling
        scales = [(scaling and variances[principle.name]) or 1.0 for principle in self.principles]
        for pair, compared in self.labels.pairs(self.dataset, self.options.min_score):
            if pair is None:
                tally.rejected += 1
                continue
            tally.pairs += 1
            ruled = self.rules.apply(pair)
            if isinstance(ruled, str):
                tally.leave_out(ruled)
                continue
            scores = [score / scale for score, scale in zip(compared, scales, strict=True)]
            for turn in range(1, self.options.passes + 1):
                made = preference(ruled, scores, self.principles, self.recipe, turn)
                tally.add(made)
                if made is not None:
                    yield made

    def record(self, variances: Mapping[str, float], tally: Tally) -> dict[str, Any]:
        """What FILE.run.json holds."""
        detector = {DETECTOR: detector_version()} if self.options.language else {}
        return {
            "versions": {"preftree": version(), **detector},
            "options": asdict(self.options),
            "labels": {"path": self.labels.place, "sha256": File(self.labels.path, str(self.labels.path)).sha256()},
            "input": self.dataset.record(),
            "principles": [{**one.record(), "variance": variances[one.name]} for one in self.principles],
            "totals": asdict(tally),
        }


def write_instructions(options: InstructionOptions) -> Result:
    """Writes `out` and its record, both or neither. Raises PreftreeError.

    Two streaming passes over the labels: variances, then preferences.
    """
    job = _Job.of(options)
    out = Path(options.out)
    paths = (out, out.with_name(f"{out.name}.{RUN}"))
    for path in paths:
        check_out_file(path, options.overwrite)
    _check_sources(job, paths)
    variances = job.variances()
    tally = Tally(dict.fromkeys(variances, 0))
    with drafts(*paths) as (rows, record):
        for made in job.preferences(variances, tally):
            row = conversations(made, options.layout) if options.to else made
            rows.file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        if not tally.preferences:
            raise InputError(_nothing(options, tally))
        text = json.dumps(job.record(variances, tally), indent=2, ensure_ascii=False)
        record.file.write(text.encode("utf-8", "backslashreplace") + b"\n")
    data = asdict(tally) | {"variances": dict(variances), "files": [str(path) for path in paths]}
    return Result(_lines(options, tally, variances, paths), data)


def _check_sources(job: _Job, paths: tuple[Path, Path]) -> None:
    """OutputError where a file to write is one that is read."""
    labels = job.labels.path
    read = [
        *(file.path for file in job.dataset.files),
        labels,
        labels.with_name(RUN),
        Path(job.options.principles or ""),
    ]
    for path in read:
        if path.resolve() in [written.resolve() for written in paths]:
            raise OutputError(f"{path} is what instructions are made from; name another --out")


def _principles(options: InstructionOptions, judged: tuple[Principle, ...]) -> tuple[Principle, ...]:
    """The principles that were judged, with weights and statements of --principles; those not in there have weight 0.

    InputError for one that was not judged.
    """
    if options.principles is None:
        return judged
    given = {principle.name.casefold(): principle for principle in load_principles(options.principles)}
    names = {principle.name.casefold() for principle in judged}
    for name, principle in given.items():
        if name not in names:
            known = ", ".join(one.name for one in judged)
            raise InputError(f"{options.principles} has {principle.name!r}, which was not judged; known: {known}")
    found = [(principle, given.get(principle.name.casefold())) for principle in judged]
    return tuple(replace(new or old, name=old.name, weight=new.weight if new else 0.0) for old, new in found)


def _recipe(options: InstructionOptions, principles: tuple[Principle, ...]) -> Recipe:
    text = options.num_principles
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not number and text != "geometric":
        raise UsageError(f"--num-principles must be geometric or a whole number from 1, not {one_line(text)}")
    if options.negate:
        for principle in principles:
            if principle.weight and principle.negative is None:
                way_out = "use --negate 0, or --principles with a file that gives it a `negative`"
                raise UsageError(f"principle {principle.name!r} has no negative statement; {way_out}")
    recipe = Recipe(
        weights=tuple(principle.weight for principle in principles),
        number=number or None,
        negate=options.negate,
        noise=options.noise,
        seed=options.seed,
        rule_noise=options.rule_noise,
        refusal_share=options.refusal_share,
        random_order=options.random_order,
    )
    if max(number, 1) > recipe.drawable:
        source, have = options.principles or options.labels, count(recipe.drawable, "principle")
        raise UsageError(f"--num-principles is {text}, and {source} has {have} with a weight above 0")
    return recipe


def _nothing(options: InstructionOptions, tally: Tally) -> str:
    """Why no preference is left, and what to change."""
    why = f"{options.labels} leaves nothing to write; {'; '.join(tally.dropped()) or 'no rows'}"
    if not tally.ties:
        return why
    if options.min_score is None:
        return f"{why}; a score is 0 where the two orders disagree, and --min-score 0 takes their mean all the same"
    return f"{why}; lower --min-score" if options.min_score else why


def _lines(
    options: InstructionOptions, tally: Tally, variances: Mapping[str, float], paths: tuple[Path, Path]
) -> list[str]:
    passes = "1 pass" if options.passes == 1 else f"{options.passes:,} passes"
    text = f"{count(tally.preferences, 'preference')} of {count(tally.pairs, 'pair')} in {passes}"
    lines = [("instructions", f"{text}, {tally.flipped:,} flipped by noise")]
    lines += [("decided", f"{number:,} by {rule}") for rule, number in sorted(tally.ruled.items())]
    lines += [("dropped", reason) for reason in tally.dropped()]
    for name, variance in variances.items():
        if options.variance_scaling and not variance:
            lines.append(("not scaled", f"{one_line(name)}: its scores are all the same"))
    lines += [("files", one_line(str(path))) for path in paths]
    return aligned(lines).split("\n")
