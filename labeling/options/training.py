"""Of `preftree train`."""

from __future__ import annotations

from typing import ClassVar, Literal

from preftree.labeling.options.option import Options, option, options
from preftree.labeling.options.reading import MovedOptions
from preftree.labeling.options.runs import OverwriteOptions, QuietOptions
from preftree.labeling.values import Each, number, one_of, path, switch, text, whole

_ABOVE_0 = number(lambda value: value > 0, "a number above 0")
_INNER_SHARE = number(lambda value: 0 < value < 1, "a number above 0 and below 1")


@options
class TrainingDataOptions(Options):
    """What a reward model is trained on."""

    SECTION: ClassVar[str] = "data"

    run: str = option(
        "a directory or URL that `preftree label` has filled; with --principled, the file that `preftree instructions` "
        "has written",
        kind=path,
        metavar="RUN",
        flag="",
    )
    labels: Literal["soft", "hard"] = option(
        "soft: cross-entropy with the judge's probability; hard: with its verdict",
        one_of("soft", "hard"),
        "KIND",
        default="soft",
    )
    principled: bool = option("train a model that follows principles given at use", switch, default=False)
    layout: Literal["instruction-first", "response-first"] = option(
        "what its input begins with: instruction-first or response-first; principles come last in both",
        one_of("instruction-first", "response-first"),
        "LAYOUT",
        requires=("principled",),
        default="instruction-first",
    )
    held_out: float = option(
        "share of the prompts that are not trained on, for the figures", _INNER_SHARE, "P", default=0.1
    )
    max_tokens: int = option("leave out pairs with a longer input", whole(1), "N", default=2048)


@options
class FittingOptions(Options):
    """How it is trained."""

    SECTION: ClassVar[str] = "training"

    lora_rank: int = option("rank of LoRA on all linear layers", whole(1, 4096), "N", default=16)
    full: bool = option("train all weights instead of LoRA", switch, excludes="lora_rank", default=False)
    lr: float | None = option("learning rate (default: 1e-4, with --full 1e-5)", _ABOVE_0, "RATE", default=None)
    epochs: float = option("passes over the data", _ABOVE_0, "N", default=1.0)
    batch_size: int = option("pairs in a forward pass", whole(1), "N", default=8)
    seed: int = option("of the head, the order of pairs, and the held-out prompts", whole(0, 2**32 - 1), "N", default=0)
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto (a GPU where there is one), cpu or cuda", one_of("auto", "cpu", "cuda"), "NAME", default="auto"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "type of the weights that are saved; auto: that of the base",
        one_of("auto", "float32", "bfloat16", "float16"),
        "TYPE",
        default="auto",
    )
    report: Literal["tensorboard", "wandb", "trackio"] | None = option(
        "log to tensorboard, wandb or trackio, too", one_of("tensorboard", "wandb", "trackio"), "WHERE", default=None
    )
    settings: tuple[str, ...] = option(
        "any other field of TRL's RewardConfig, such as gradient_accumulation_steps=4; give it again for another",
        Each(text),
        "FIELD=VALUE",
        "set",
        default=(),
    )


@options
class TrainOptions(FittingOptions, TrainingDataOptions, QuietOptions, OverwriteOptions, MovedOptions):
    """`preftree train`."""

    model: str = option("the base: a Hugging Face directory with a chat template", path, "DIR")
    out: str = option("the reward model; training that was interrupted there is resumed", path, "DIR")
