"""The judge, and how it runs."""

from __future__ import annotations

from typing import ClassVar, Literal

from preftree.labeling.options.option import Options, option, options
from preftree.labeling.values import device_name, device_names, dtype_name, fraction, one_of, size, switch, whole

_COT = ("cot",)
_MODEL = "embedded, a Hugging Face directory, a .gguf, or a name on the Hugging Face hub, such as Qwen/Qwen3-0.6B"


@options
class EngineOptions(Options):
    """How a judge runs, whichever it is."""

    SECTION: ClassVar[str] = "model"

    rendering: Literal["auto", "chat", "plain"] = option(
        "whether prompts go through the chat template; auto: if there is one",
        one_of("auto", "chat", "plain"),
        switches={"chat": "apply the model's chat template", "plain": "skip the model's chat template"},
        default="auto",
    )
    device: str = option(
        "auto (a GPU that can run the model, else the CPU), cpu, cuda or cuda:N", device_name, "NAME", default="auto"
    )
    devices: str | None = option(
        "several equal GPUs that share the layers of a model too large for one, such as 0,1",
        device_names,
        "NAMES",
        excludes="device",
        default=None,
    )
    dtype: str = option(
        "auto (bfloat16 on a GPU and on a CPU that is made for it, else float32), float32 (fp32), bfloat16 (bf16), "
        "float16 (fp16), or weights and products in 8 bits: int8 on a CPU, fp8 on a GPU (a CPU emulates it)",
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
    stream_layers: Literal["auto", "always", "never"] = option(
        "copy layers one by one to where they are computed, instead of keeping all there: always, never, or auto (if "
        "they do not fit)",
        one_of("auto", "always", "never"),
        "WHEN",
        default="auto",
    )
    offline: bool = option(
        "take models and data sets of the Hugging Face hub from the cache only, as with HF_HUB_OFFLINE=1",
        switch,
        default=False,
    )


@options
class JudgeNameOptions(Options):
    """Which model judges."""

    SECTION: ClassVar[str] = "model"

    model: str = option(_MODEL, metavar="MODEL", default="embedded")


@options
class ModelOptions(EngineOptions, JudgeNameOptions):
    """The judge, and how it runs."""
