"""Of commands that make training data of a run."""

from __future__ import annotations

from typing import Literal

from preftree.labeling.options.option import option, options
from preftree.labeling.options.reading import MovedOptions
from preftree.labeling.options.runs import OverwriteOptions
from preftree.labeling.values import Each, number, one_of, path, share, some_text, switch, whole

_EXPORTS = (
    *("trl-reward", "trl-soft", "trl-dpo", "kto", "openrlhf", "ultrafeedback", "soft", "annotated-pairs"),
    "label-studio",
)
_LABELLED = "a directory or URL that `preftree label` has filled"


@options
class ExportOptions(OverwriteOptions, MovedOptions):
    """`preftree export`."""

    run: str = option(_LABELLED, kind=path, metavar="RUN", flag="")
    to: str = option(f"{', '.join(_EXPORTS)}; see docs/exports.md", one_of(*_EXPORTS), "FORMAT")
    out: str = option(".jsonl or .parquet; .json for annotated-pairs and label-studio", path, "FILE")
    pairs: Literal["best-worst", "all"] = option(
        "of a ranking: best-worst, or all that were compared",
        one_of("best-worst", "all"),
        "WHICH",
        default="best-worst",
    )
    ties: Literal["drop", "keep"] | None = option(
        "drop or keep (default: keep where they can be held, in trl-soft, soft, annotated-pairs, label-studio and with "
        "--soften)",
        one_of("drop", "keep"),
        "WHAT",
        default=None,
    )
    min_confidence: float | None = option(
        "leave out verdicts of a lower probability, from 0.5 to 1", share, "P", default=None
    )
    calibration: str | None = option(
        "write calibrated probabilities, by a file of `preftree calibrate`; the run stays as it is",
        kind=path,
        metavar="FILE",
        default=None,
    )
    accept: str | None = option(
        "write labels that a file of `preftree calibrate --max-error` accepts, and the others beside them, to "
        "NAME.abstained.jsonl; label-studio has the others alone",
        kind=path,
        metavar="FILE",
        default=None,
    )
    soften: int | None = option(
        "write each pair K times, a share of P(A is better) with A chosen: soft labels for trainers without them",
        whole(2, 1000),
        "K",
        default=None,
    )
    seed: int = option("random seed of --soften", whole(0), "N", requires=("soften",), default=0)
    margin: bool = option(
        "add the column margin to trl-reward: TRL subtracts it, and it is no soft label",
        switch,
        excludes="soften",
        default=False,
    )
    drop_inconsistent: bool = option(
        "leave out pairs whose two orders do not prefer the same response", switch, default=False
    )
    partial: bool = option("export the rows of an unfinished run that are labelled so far", switch, default=False)


@options
class InstructionOptions(OverwriteOptions, MovedOptions):
    """`preftree instructions`."""

    labels: str = option(
        "a directory or URL that `preftree label --method salmon` has filled", kind=path, metavar="DIR", flag=""
    )
    out: str = option("JSONL to write, a preference a line", path, "FILE")
    to: Literal["trl"] | None = option(
        "trl: write columns id, chosen and rejected, the conversations that a principle-following reward model reads, "
        "for TRL's RewardTrainer (default: all that `preftree train --principled` and people want to know)",
        one_of("trl"),
        "FORMAT",
        default=None,
    )
    layout: Literal["instruction-first", "response-first"] = option(
        "what these conversations begin with: instruction-first or response-first; principles come last in both",
        one_of("instruction-first", "response-first"),
        "LAYOUT",
        requires=("to",),
        default="instruction-first",
    )
    principles: str | None = option(
        "weights and statements to use instead of those that the run judged by, whose names they have; the others are "
        "not drawn (`aggregated`: the eight of SALMON's code)",
        metavar="NAME|FILE",
        default=None,
    )
    num_principles: str = option(
        "principles in a row: a number, or geometric (p = 0.2, at most 8)", metavar="N", default="geometric"
    )
    passes: int = option("passes over the pairs", whole(1), "N", default=4)
    negate: float = option("probability that a principle is negated", share, "P", default=0.5)
    noise: float = option("share of labels that are flipped", share, "P", default=0.1)
    variance_scaling: bool = option("compare scores as they are, whatever their spread", switch, default=True)
    min_score: float | None = option(
        "count a principle where the mean of both orders is at least S nats from 0, whether they agree or not; 0 "
        "counts all of them (default: where they agree)",
        number(lambda value: value >= 0, "a number, at least 0"),
        "S",
        default=None,
    )
    refusal_phrase: tuple[str, ...] = option(
        'a response that contains this loses against one that does not, such as "As an AI language model"; give it '
        "again for another phrase",
        Each(some_text),
        "TEXT",
        default=(),
    )
    refusal_share: float = option(
        "probability that a refusal phrase decides where it can",
        share,
        "P",
        requires=("refusal_phrase",),
        default=0.5,
    )
    language: bool = option(
        "a response in the prompt's language wins against one in another; pairs without either are left out",
        switch,
        default=False,
    )
    rule_noise: float = option(
        "share of labels that are flipped where a refusal phrase or a language decides", share, "P", default=0.25
    )
    min_length: int = option(
        "leave out pairs with a response of fewer characters (SALMON's code: 16)", whole(0), "N", default=0
    )
    cut_at: str | None = option(
        'end each response before this marker (SALMON\'s code: "###")', some_text, "TEXT", default=None
    )
    random_order: bool = option("show either response as A, by a coin for each row", switch, default=False)
    seed: int = option("random seed", whole(0), "N", default=0)
