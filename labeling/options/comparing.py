"""Of `preftree compare`."""

from __future__ import annotations

from typing import ClassVar

from preftree.labeling.options.inputs import InputOptions
from preftree.labeling.options.model import EngineOptions
from preftree.labeling.options.option import Options, option, options
from preftree.labeling.options.runs import OverwriteOptions, QuietOptions
from preftree.labeling.values import Each, one_of, path, switch, text, whole


@options
class CombinationOptions(Options):
    """What is combined: every value of one with every value of the others."""

    SECTION: ClassVar[str] = "combinations (each may be given several times)"

    model: tuple[str, ...] = option(
        "embedded, a Hugging Face directory, a .gguf, or a name on the Hugging Face hub (default: embedded)",
        Each(text),
        "MODEL",
        default=(),
    )
    method: tuple[str, ...] = option(
        "rlaif, direct or salmon (default: rlaif)", Each(one_of("rlaif", "direct", "salmon")), "NAME", default=()
    )
    template: tuple[str, ...] = option(
        "see `preftree templates`, or a file (default: what suits the method)", Each(text), "NAME|FILE", default=()
    )
    preamble: tuple[str, ...] = option("base or detailed (default: detailed)", Each(text), "NAME", default=())
    exemplars: tuple[int, ...] = option("few-shot exemplars to show (default: 0)", Each(whole(0)), "N", default=())
    principles: tuple[str, ...] = option(
        "a set of principles for salmon, YAML or JSON", Each(text), "NAME|FILE", default=()
    )


@options
class CompareOptions(CombinationOptions, EngineOptions, QuietOptions, OverwriteOptions, InputOptions):
    """`preftree compare`."""

    SECTION: ClassVar[str] = "comparison"

    fence: bool = option("show each response between fences of backticks that it cannot close", switch, default=False)
    seed: int = option("seed of --sample and of the bootstrap", whole(0), "N", default=0)
    out: str = option(
        "output directory, with a run for each model; an existing comparison of the same is resumed", path, "DIR"
    )
    html: str | None = option("write a page to look at, too", path, "FILE", default=None)
