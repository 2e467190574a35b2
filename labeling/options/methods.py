"""What labelling methods take."""

from __future__ import annotations

from typing import ClassVar

from preftree.engine.generation import Sampling
from preftree.labeling.options.inputs import InputOptions
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.options.option import Options, option, options
from preftree.labeling.values import Each, boost, fraction, number, one_of, path, some_text, switch, text, whole

RULES = ("strongest", "weighted", "won", "scaled")
OWN_COMMANDS = {"principled": "score", "reward": "reward", "probe": "probe"}  # commands for one method, by the method
_COT = ("cot",)
DRAWN = ("cot", "temperature")
_TEMPLATE = "see `preftree templates`, or a file (default: what suits the method)"
_MAX_SAMPLES = 256  # more rationales of hundreds of tokens for each prompt are a mistake


@options
class ChoiceOptions(Options):
    """Which method."""

    SECTION: ClassVar[str] = "method"

    method: str = option(
        "rlaif (pairs), direct (a score for each response), rubric (a score by weighted criteria), salmon (a score for "
        "each principle), ranking",
        metavar="NAME",
        default="rlaif",
    )


@options
class MethodOptions(Options):
    """Of a method."""

    SECTION: ClassVar[str] = "method"


@options
class PromptOptions(MethodOptions):
    """Of methods that ask a judge."""

    template: str | None = option(_TEMPLATE, metavar="NAME|FILE", default=None)
    preamble: str = option("base or detailed", metavar="NAME", labels=True, default="detailed")
    exemplars: int = option("few-shot exemplars to show", whole(0), "N", labels=True, default=0)
    fence: bool = option(
        "show each response between fences of backticks that it cannot close", switch, labels=True, default=False
    )


@options
class RationaleOptions(PromptOptions):
    """Chain of thought and self-consistency (Lee et al. 2023): a rationale is generated before the label is scored."""

    SECTION: ClassVar[str] = "chain of thought (rlaif, direct, rubric, salmon)"

    cot: bool = option("generate a rationale before scoring the label", switch, labels=True, default=False)
    max_rationale_tokens: int = option(
        "token limit of a rationale", whole(1, 1 << 27), "N", labels=True, requires=_COT, default=512
    )
    samples: int = option(
        "rationales to sample for each prompt; label probabilities are averaged",
        whole(1, _MAX_SAMPLES),
        "N",
        labels=True,
        requires=DRAWN,
        default=1,
    )
    temperature: float = option(
        "sampling temperature; 0 is greedy decoding",
        number(lambda value: value == 0 or 0.01 <= value <= 100, "0 (the most probable) or from 0.01 to 100"),
        "T",
        labels=True,
        requires=_COT,
        default=0.0,
    )
    top_k: int | None = option(
        "sample from the K most probable tokens", whole(1, 1 << 30), "K", labels=True, requires=DRAWN, default=None
    )
    top_p: float | None = option(
        "nucleus sampling: from the most probable tokens that sum to P",
        fraction,
        "P",
        labels=True,
        requires=DRAWN,
        default=None,
    )
    seed: int = option(
        "seed of --sample, and of sampled rationales",
        whole(0),
        "N",
        labels=True,
        derived=True,
        requires=DRAWN,
        serves="sample",
        section="rows",
        default=0,
    )

    @property
    def sampling(self) -> Sampling | None:
        """How rationales are generated; None without."""
        if not self.cot:
            return None
        drawn = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "seed")}
        return Sampling(max_new_tokens=self.max_rationale_tokens, n=self.samples, **drawn)


@options
class ScaleOptions(PromptOptions):
    """Of methods that score single responses."""

    scale: str | None = option(
        "labels of single responses, such as 1-5 (default: the template's, 1-10)",
        metavar="LOW-HIGH",
        labels=True,
        default=None,
        kw_only=False,
    )


@options
class PrinciplesOptions(MethodOptions):
    """Of methods that judge by principles."""

    principles: str | None = option(
        "a set of principles for salmon, score or reward, YAML or JSON",
        metavar="NAME|FILE",
        default=None,
        kw_only=False,
    )


@options
class CalibrationOptions(MethodOptions):
    """Of methods whose labels of pairs have p_a."""

    calibration: str | None = option(
        "make p_a the calibrated probability, by a file of `preftree calibrate` (rlaif, salmon, reward)",
        kind=path,
        metavar="FILE",
        derived=True,
        default=None,
    )


@options
class RlaifOptions(RationaleOptions, CalibrationOptions):
    """Method rlaif: a soft label for a pair, both orders averaged."""

    template: str | None = option(_TEMPLATE, metavar="NAME|FILE", default=None, kw_only=False)


@options
class DirectOptions(ScaleOptions, RationaleOptions):
    """Method direct: a score for each response."""


@options
class RubricOptions(RationaleOptions):
    """Method rubric: a score for each response, by weighted yes/no criteria."""

    SECTION: ClassVar[str] = "method"

    rubric: str | None = option(
        "rubric: weighted yes/no criteria for all rows, YAML or JSON", path, "FILE", default=None, kw_only=False
    )
    rubric_column: str | None = option(
        "rubric: the input column with the criteria of each row",
        some_text,
        "COLUMN",
        excludes="rubric",
        default=None,
    )


@options
class SalmonOptions(RationaleOptions, CalibrationOptions, PrinciplesOptions):
    """Method salmon: a score for each principle."""

    SECTION: ClassVar[str] = "method"

    aggregate: str = option(
        "salmon: strongest (the principle with the largest score decides), weighted, won, or scaled (the largest score "
        "over its principle's variance in the rows that are labelled)",
        one_of(*RULES),
        "RULE",
        labels=True,
        derived=True,
        default="strongest",
    )


@options
class RankingOptions(PromptOptions):
    """Method ranking: several responses in order."""

    comparisons: int | None = option(
        "ranking: ordered pairs to judge a row (default: all)",
        whole(1),
        "N",
        labels=True,
        default=None,
        kw_only=False,
    )


@options
class SetsOptions(PrinciplesOptions):
    """Of methods that score under sets of principles."""

    under: tuple[tuple[str, ...], ...] = option(
        "a set of principles, by name or as a text; give it again for another set, scored beside it",
        Each(Each(text)),
        "PRINCIPLE",
        default=(),
    )
    add_principle: tuple[str, ...] = option("one more principle in every set", Each(text), "TEXT", default=())
    guard: bool = option(
        "in every set, the three against reward hacking: no self-praise, an answer not advice, no needless examples",
        switch,
        default=False,
    )
    draw: int | None = option(
        "score each row under N of --principles, drawn by weight (SALMON's code: 3 of 14)",
        whole(1),
        "N",
        requires=("principles",),
        excludes="under",
        default=None,
    )
    draw_seed: int = option("seed of --draw", whole(0), "N", requires=("draw",), default=0)
    boost: tuple[str, ...] = option(
        "what a principle with this tag adds to its weight for rows with the same tag (SALMON's code: 128 for "
        "reasoning and for red-teaming); give it again for another tag",
        Each(boost),
        "TAG=WEIGHT",
        requires=("draw",),
        default=(),
    )
    tag_column: str = option(
        "the input column with the tag of a row, or a list of them",
        metavar="COLUMN",
        requires=("boost",),
        default="tag",
    )


@options
class PrincipledOptions(ScaleOptions, SetsOptions):
    """Method principled (`preftree score`): scores under sets of principles of your choice."""


@options
class RewardOptions(CalibrationOptions, SetsOptions):
    """Method reward (`preftree reward`): what a reward model says of a response, under principles if it follows any."""


@options
class ProbeOptions(PromptOptions):
    """Method probe (`preftree probe`): rlaif of a pair as it is, and under probes of the judge."""

    probes: tuple[str, ...] = option(
        "a probe by name; give it again for another (default: all, see docs/panels-and-probes.md)",
        Each(text),
        "NAME",
        "probe",
        labels=True,
        default=(),
    )


@options
class JudgeOptions(
    ProbeOptions,
    RewardOptions,
    PrincipledOptions,
    RankingOptions,
    SalmonOptions,
    RubricOptions,
    DirectOptions,
    RlaifOptions,
    ChoiceOptions,
    ModelOptions,
    InputOptions,
):
    """What a judge is asked about which rows. An option that is not for the method is refused when it is opened."""
