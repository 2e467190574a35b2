"""Every option, once: name, type, default, help, and whether labels depend on it.

The flags of the command line, the keys of a `--config` file, the `options` in run.json and the objects of the Python
API (`preftree.Salmon`) all follow from these classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, dataclass_transform

from preftree.engine.errors import UsageError
from preftree.engine.generation import Sampling
from preftree.labeling.values import (
    Each,
    OneOrEach,
    device_name,
    dtype_name,
    fraction,
    number,
    one_of,
    path,
    shard_part,
    share,
    size,
    switch,
    text,
    whole,
)

Class = TypeVar("Class")
_COT, _DRAWN = ("cot",), ("cot", "temperature")
_MAX_SAMPLES = 256  # more rationales of hundreds of tokens for each prompt are a mistake
_EXPORTS = ("trl-reward", "trl-dpo", "kto", "openrlhf", "ultrafeedback", "soft", "annotated-pairs")
_LABELLED = "a directory or URL that `preftree label` has filled"


class Option(NamedTuple):
    """What there is to know of an option beyond its name, type and default.

    Attributes:
        help: for `--help`, which adds the default.
        kind: makes the value from text, or from what Python gives; ValueError "must be ...".
        metavar: what `--help` shows instead of the value; of an option without flag, its name.
        flag: where it is not the name; "" for a positional argument.
        labels: whether labels depend on the value, so that a run is resumed only with the same. False for the name of
            a thing (a model, a file) whose content is recorded itself.
        derived: whether labels depend on it and answers do not, so that a run is labelled again with another value.
        requires: options without which this one has no effect.
        serves: an option with which it has an effect without what it requires, whatever the method.
        excludes: an option that cannot be given together with this one.
        switches: help by value, for flags that each stand for a value.
    """

    help: str
    kind: Callable[[Any], Any] = text
    metavar: str | None = None
    flag: str | None = None
    labels: bool = False
    derived: bool = False
    requires: tuple[str, ...] = ()
    serves: str = ""
    excludes: str = ""
    switches: Mapping[str, str] = {}


def option(*args: Any, default: Any = MISSING, kw_only: bool = True, **named: Any) -> Any:
    """A field with an `Option`, whose arguments these are."""
    return field(default=default, kw_only=kw_only, metadata={"option": Option(*args, **named)})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def options(cls: type[Class]) -> type[Class]:
    """A frozen dataclass of options."""
    return dataclass(frozen=True, kw_only=True)(cls)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checked values. UsageError, in the words of the command line, for one that is out of range or has no effect."""

    SECTION: ClassVar[str] = "options"

    def __post_init__(self) -> None:
        given, known = self.given(), declared(type(self))
        for name, option in given.items():
            try:
                object.__setattr__(self, name, option.kind(getattr(self, name)))
            except ValueError as error:
                raise UsageError(f"{spelled(name, option)} {error}") from None
        for name, option in given.items():
            if (needed := self.lacking(option)) and not self.has(option.serves):
                above = " above 0" if isinstance(getattr(self, needed), float) else ""
                raise UsageError(f"{spelled(name, option)} requires {spelled(needed, known[needed])}{above}")
            if option.excludes in given:
                said = f"--{getattr(self, name)}" if option.switches else spelled(name, option)
                raise UsageError(f"{said} excludes {spelled(option.excludes, known[option.excludes])}")

    def has(self, name: str) -> bool:
        """Whether there is an option of this name, with a value."""
        return bool(getattr(self, name, None))

    def lacking(self, option: Option) -> str | None:
        """The first that `option` requires and that has no value."""
        return next((name for name in option.requires if name in declared(type(self)) and not self.has(name)), None)

    def given(self) -> dict[str, Option]:
        """The options whose value is not the default."""
        default = defaults(type(self))
        known = declared(type(self)).items()
        return {name: one for name, one in known if name not in default or getattr(self, name) != default[name]}


def declared(kind: type[Options]) -> dict[str, Option]:
    """The options of a class by name."""
    return {entry.name: entry.metadata["option"] for entry in fields(kind)}


def defaults(kind: type[Options]) -> dict[str, Any]:
    """Default by name, without the options that must be given."""
    return {entry.name: entry.default for entry in fields(kind) if entry.default is not MISSING}


def spelled(name: str, option: Option) -> str:
    """The option as it stands on the command line."""
    if option.flag == "":
        return str(option.metavar)
    return f"-{option.flag}" if option.flag and len(option.flag) == 1 else f"--{option.flag or name.replace('_', '-')}"


@options
class InputOptions(Options):
    """Which rows are labelled."""

    SECTION: ClassVar[str] = "rows"

    input: str | tuple[str, ...] = option(
        "files, patterns, folders of files, URLs (s3://, hf://, ...) or - for standard input: JSONL or CSV (plain, "
        "gzip or zstd), Parquet, Arrow, or a dataset saved to disk; each row has prompt (a string or chat messages) "
        "and response_a and response_b, or response, or responses (a list), and may have id and gold (a, b or tie), or "
        "the columns of preference data such as chosen and rejected; other columns pass through",
        OneOrEach(text),
        "INPUT",
        flag="",
    )
    limit: int | None = option(
        "the first N rows only; a finished run may be run again with more",
        whole(1),
        "N",
        labels=True,
        derived=True,
        default=None,
    )
    sample: int | None = option(
        "N rows that --seed draws; a larger sample, or the whole, resumes the run",
        whole(1),
        "N",
        labels=True,
        derived=True,
        default=None,
    )
    mapping: tuple[str, ...] = option(
        "take COLUMN for a field, such as response_a=output or prompt=info.post; give it again for another",
        Each(text),
        "FIELD=COLUMN",
        "map",
        labels=True,
        default=(),
    )


@options
class ModelOptions(Options):
    """The judge, and how it runs."""

    SECTION: ClassVar[str] = "model"

    model: str = option("embedded, a Hugging Face directory, or a .gguf", metavar="MODEL", default="embedded")
    rendering: Literal["auto", "chat", "plain"] = option(
        "whether prompts go through the chat template; auto: if there is one",
        one_of("auto", "chat", "plain"),
        switches={"chat": "apply the model's chat template", "plain": "skip the model's chat template"},
        default="auto",
    )
    device: str = option(
        "auto (a GPU that can run the model, else the CPU), cpu, cuda or cuda:N", device_name, "NAME", default="auto"
    )
    dtype: str = option(
        "auto (bfloat16 on a GPU and on a CPU that is made for it, else float32), float32 (fp32), bfloat16 (bf16), "
        "float16 (fp16), or int8 (weights and products in 8 bits, on a CPU)",
        dtype_name,
        "TYPE",
        default="auto",
    )
    batch_tokens: int | None = option(
        "unique tokens of a forward pass (default: as many as run well and fit)", whole(1), "N", default=None
    )
    prefix_cache: bool = option("disable the shared-prefix KV cache", switch, default=True)
    kv_memory: int | None = option(
        "with --cot: memory of the KV cache, such as 4GB (default: all spare)",
        size,
        "SIZE",
        requires=_COT,
        default=None,
    )
    memory_fraction: float | None = option(
        "share of a GPU's memory to use at most, for weights and all else (default: most of what is free)",
        fraction,
        "P",
        default=None,
    )


@options
class ChoiceOptions(Options):
    """Which method."""

    SECTION: ClassVar[str] = "method"

    method: str = option(
        "rlaif (pairs), direct (a score for each response), salmon (a score for each principle), ranking",
        metavar="NAME",
        default="rlaif",
    )


@options
class MethodOptions(Options):
    """What every method takes."""

    SECTION: ClassVar[str] = "method"

    template: str | None = option(
        "see `preftree templates`, or a file (default: what suits the method)", metavar="NAME|FILE", default=None
    )
    preamble: str = option("base or detailed", metavar="NAME", labels=True, default="detailed")
    exemplars: int = option("few-shot exemplars to show", whole(0), "N", labels=True, default=0)
    fence: bool = option(
        "show each response between fences of backticks that it cannot close", switch, labels=True, default=False
    )


@options
class RationaleOptions(MethodOptions):
    """Chain of thought and self-consistency (Lee et al. 2023): a rationale is generated before the label is scored."""

    SECTION: ClassVar[str] = "chain of thought (rlaif, direct, salmon)"

    cot: bool = option("generate a rationale before scoring the label", switch, labels=True, default=False)
    max_rationale_tokens: int = option(
        "token limit of a rationale", whole(1, 1 << 27), "N", labels=True, requires=_COT, default=512
    )
    samples: int = option(
        "rationales to sample for each prompt; label probabilities are averaged",
        whole(1, _MAX_SAMPLES),
        "N",
        labels=True,
        requires=_DRAWN,
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
        "sample from the K most probable tokens", whole(1, 1 << 30), "K", labels=True, requires=_DRAWN, default=None
    )
    top_p: float | None = option(
        "nucleus sampling: from the most probable tokens that sum to P",
        fraction,
        "P",
        labels=True,
        requires=_DRAWN,
        default=None,
    )
    seed: int = option(
        "seed of sampled rationales, and of --sample",
        whole(0),
        "N",
        labels=True,
        derived=True,
        requires=_DRAWN,
        serves="sample",
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
class ScaleOptions(MethodOptions):
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
        "a set of principles for salmon or score, YAML or JSON", metavar="NAME|FILE", default=None, kw_only=False
    )


@options
class RlaifOptions(RationaleOptions):
    """Method rlaif: a soft label for a pair, both orders averaged."""


@options
class DirectOptions(ScaleOptions, RationaleOptions):
    """Method direct: a score for each response."""


@options
class SalmonOptions(PrinciplesOptions, RationaleOptions):
    """Method salmon: a score for each principle."""

    SECTION: ClassVar[str] = "method"

    aggregate: str = option(
        "salmon: strongest (the principle with the largest score decides), weighted, or won",
        one_of("strongest", "weighted", "won"),
        "RULE",
        labels=True,
        derived=True,
        default="strongest",
    )


@options
class RankingOptions(MethodOptions):
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
class PrincipledOptions(ScaleOptions, PrinciplesOptions):
    """Method principled (`preftree score`): scores under sets of principles of your choice."""

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


@options
class JudgeOptions(
    PrincipledOptions,
    RankingOptions,
    SalmonOptions,
    DirectOptions,
    RlaifOptions,
    ChoiceOptions,
    ModelOptions,
    InputOptions,
):
    """What a judge is asked about which rows. An option that is not for the method is refused when it is opened."""


@options
class QuietOptions(Options):
    """Of what takes a while."""

    SECTION: ClassVar[str] = "run"

    quiet: bool = option("no progress and no summary", switch, default=False)


@options
class OverwriteOptions(Options):
    """Of what writes."""

    SECTION: ClassVar[str] = "run"

    overwrite: bool = option("replace what is there", switch, excludes="worker", default=False)


@options
class RunOptions(QuietOptions, OverwriteOptions):
    """The run directory."""

    out: str = option(
        "output directory, or a URL such as s3://bucket/run (nothing locks there: of several processes each may judge "
        "the same rows, with the same labels); an existing run of the same job is resumed",
        path,
        "DIR",
    )
    force_new: bool = option(
        "start a new run in DIR-2, DIR-3, ... instead of resuming", switch, excludes="overwrite", default=False
    )
    retry_rejects: bool = option("judge rejected rows again", switch, default=False)
    allow_low_mass: bool = option(
        "go on where the labels of the first 100 rows have almost no probability", switch, default=False
    )
    shard: str | None = option(
        "only this part of the rows; `preftree merge` joins the parts",
        shard_part,
        "I/N",
        labels=True,
        excludes="worker",
        default=None,
    )
    worker: str | None = option(
        "judge only this part of the rows, beside other processes with the same --out and another I; whoever is done "
        "last makes the labels",
        shard_part,
        "I/N",
        excludes="force_new",
        default=None,
    )
    profile: str | None = option(
        "write a trace of the first forward passes, for ui.perfetto.dev; compressed if FILE ends in .gz",
        kind=path,
        metavar="FILE",
        default=None,
    )
    subset: str | None = option(
        "report agreement with gold by the values of this input column, too", metavar="COLUMN", flag="by", default=None
    )

    @property
    def directory(self) -> str:
        """Of the run."""
        return self.out


@options
class CandidateOptions(Options):
    """How responses are drawn from a policy."""

    SECTION: ClassVar[str] = "sampling"

    n: int = option("responses to each prompt", whole(1, _MAX_SAMPLES), "N", labels=True, default=2)
    temperature: float = option(
        "sampling temperature; 0 is greedy decoding",
        number(lambda value: value == 0 or 0.01 <= value <= 100, "0 (the most probable) or from 0.01 to 100"),
        "T",
        labels=True,
        default=0.7,
    )
    top_k: int | None = option(
        "sample from the K most probable tokens",
        whole(1, 1 << 30),
        "K",
        labels=True,
        requires=("temperature",),
        default=None,
    )
    top_p: float = option(
        "nucleus sampling: from the most probable tokens that sum to P",
        fraction,
        "P",
        labels=True,
        requires=("temperature",),
        default=1.0,
    )
    max_tokens: int = option("token limit of a response", whole(1, 1 << 27), "N", labels=True, default=768)
    stop: tuple[str, ...] = option(
        "a text that ends a response and is no part of it; give it again for another",
        Each(text),
        "TEXT",
        labels=True,
        default=(),
    )
    seed: int = option("sampling seed", whole(0), "N", labels=True, requires=("temperature",), default=0)

    @property
    def sampling(self) -> Sampling:
        """How responses are drawn. Raises UsageError."""
        if self.temperature == 0 and self.n > 1:
            raise UsageError(f"--n {self.n} responses are all the same at --temperature 0; use --n 1, or a temperature")
        return Sampling(
            max_new_tokens=self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p if self.top_p < 1 else None,
            n=self.n,
            stop=self.stop,
            seed=self.seed,
        )


@options
class SampleOptions(CandidateOptions, RunOptions, ModelOptions, InputOptions):
    """`preftree sample`. What FILE is made of is kept in the run directory FILE.run."""

    input: str | tuple[str, ...] = option(
        "whatever `preftree label` takes, with or without responses (those that are there are left out, and gold with "
        "them): each row has prompt, a string or chat messages, and may have id; other columns pass through",
        OneOrEach(text),
        "PROMPTS",
        flag="",
    )
    out: str = option(
        "JSONL to write, which `preftree label` reads; answers are kept in the directory FILE.run, and the same "
        "command resumes there",
        metavar="FILE",
    )
    allow_low_mass: bool = option("responses have no labels", switch, default=True)

    @property
    def directory(self) -> str:
        """Of the run."""
        return f"{self.out}.run"


@options
class LabelOptions(RunOptions, JudgeOptions):
    """`preftree label` and `preftree score`."""


@options
class PlanOptions(QuietOptions, JudgeOptions):
    """`preftree plan`."""

    measure: bool = option(
        "load the model, run a few seconds of the job, and report how long all of it will take on this machine",
        switch,
        default=False,
    )


@options
class ConfigOptions(Options):
    """Where other options are; not one of a command's own."""

    config: str | None = option(
        "YAML file of options, or a run.json; flags on the command line go before it (--no-NAME turns one off)",
        kind=path,
        metavar="FILE",
        default=None,
    )


@options
class MovedOptions(Options):
    """Of what reads a labelled input again."""

    input: str | None = option(
        "where the labelled input is now, if it was moved", kind=path, metavar="FILE", default=None
    )


@options
class StatusOptions(MovedOptions):
    """`preftree status`."""

    dir: str = option("the --out of a `preftree label`", kind=path, metavar="DIR", flag="")


@options
class MergeOptions(QuietOptions, OverwriteOptions, MovedOptions):
    """`preftree merge`."""

    shards: tuple[str, ...] = option(
        "the directory of a finished run with --shard; name all of them", Each(path), metavar="SHARD", flag=""
    )
    out: str = option("the joined run", path, "DIR")


@options
class AggregateOptions(QuietOptions, OverwriteOptions, MovedOptions):
    """`preftree aggregate`. What is None is as in the run."""

    run: str = option(_LABELLED, kind=path, metavar="RUN", flag="")
    aggregate: str | None = option(
        "salmon: strongest, weighted, or won", one_of("strongest", "weighted", "won"), "RULE", default=None
    )
    subset: str | None = option(
        "report agreement with gold by the values of this input column, too", metavar="COLUMN", flag="by", default=None
    )
    out: str | None = option("a new run with the same answers (default: RUN itself)", path, "DIR", default=None)


@options
class ShowOptions(MovedOptions):
    """`preftree show`."""

    run: str = option(f"{_LABELLED}, or is filling", kind=path, metavar="RUN", flag="")
    id: str | None = option(
        "id of a row, to show all of it; line-N where the input has no ids", metavar="ID", flag="", default=None
    )
    which: Literal["disagree", "biased", "wrong"] | None = option(
        "rows worth reading",
        one_of("disagree", "biased", "wrong"),
        switches={
            "disagree": "rows on which the two orders prefer different responses",
            "biased": "rows with the largest position gap",
            "wrong": "rows whose verdict is not that of gold, the most confident first",
        },
        excludes="id",
        default=None,
    )
    rows: int = option("rows to show", whole(1), "N", "n", excludes="id", default=10)


@options
class ReportOptions(MovedOptions):
    """`preftree report`."""

    labels: str = option(
        f"{_LABELLED}; or a Parquet file with columns as labels.parquet has them",
        kind=path,
        metavar="RUN_OR_FILE",
        flag="",
    )
    subset: str | None = option("figures by the values of this column, too", metavar="COLUMN", default=None)
    json: bool = option("print JSON", switch, default=False)
    html: str | None = option(
        "write a page to look at instead: figures, plots and the rows worth reading in one file",
        kind=path,
        metavar="FILE",
        excludes="json",
        default=None,
    )
    overwrite: bool = option("replace FILE", switch, requires=("html",), default=False)


@options
class ExportOptions(OverwriteOptions, MovedOptions):
    """`preftree export`."""

    run: str = option(_LABELLED, kind=path, metavar="RUN", flag="")
    to: str = option(f"{', '.join(_EXPORTS)}; see labeling/export/formats.py", one_of(*_EXPORTS), "FORMAT")
    out: str = option(".jsonl or .parquet; .json for annotated-pairs", path, "FILE")
    pairs: Literal["best-worst", "all"] = option(
        "of a ranking: best-worst, or all that were compared",
        one_of("best-worst", "all"),
        "WHICH",
        default="best-worst",
    )
    ties: Literal["drop", "keep"] | None = option(
        "drop or keep (default: keep in soft and annotated-pairs; the others cannot hold them)",
        one_of("drop", "keep"),
        "WHAT",
        default=None,
    )
    min_confidence: float | None = option(
        "leave out verdicts of a lower probability, from 0.5 to 1", share, "P", default=None
    )
    drop_inconsistent: bool = option("leave out pairs on which the two orders disagree", switch, default=False)
    partial: bool = option("export the rows of an unfinished run that are labelled so far", switch, default=False)


@options
class InstructionOptions(OverwriteOptions, MovedOptions):
    """`preftree instructions`."""

    labels: str = option(
        "a directory or URL that `preftree label --method salmon` has filled", kind=path, metavar="DIR", flag=""
    )
    out: str = option("JSONL to write, a preference a line", path, "FILE")
    num_principles: str = option(
        "principles in a row: a number, or geometric (p = 0.2, at most 8)", metavar="N", default="geometric"
    )
    passes: int = option("passes over the pairs", whole(1), "N", default=4)
    negate: float = option("probability that a principle is negated", share, "P", default=0.5)
    noise: float = option("share of labels that are flipped", share, "P", default=0.1)
    variance_scaling: bool = option("compare scores as they are, whatever their spread", switch, default=True)
    seed: int = option("random seed", whole(0), "N", default=0)


@options
class TemplatesOptions(Options):
    """`preftree templates`."""

    name: str | None = option("show this one whole", metavar="NAME|FILE", flag="", default=None)


@options
class DoctorOptions(Options):
    """`preftree doctor`."""

    model: str | None = option("embedded, a Hugging Face directory, or a .gguf", metavar="MODEL", flag="", default=None)
    accuracy: str | None = option(
        "judge the first pairs of FILE in two types and print how far the labels are apart",
        kind=path,
        metavar="FILE",
        requires=("model",),
        default=None,
    )
    limit: int = option("pairs to judge", whole(1), "N", requires=("accuracy",), default=100)
    dtype: str = option("the type in question", dtype_name, "TYPE", requires=("accuracy",), default="auto")
    against: str = option("the type to compare with", dtype_name, "TYPE", requires=("accuracy",), default="float32")
