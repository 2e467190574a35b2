"""Of the other commands."""

from __future__ import annotations

from typing import Literal

from preftree.labeling.options.option import Options, option, options
from preftree.labeling.values import dtype_name, one_of, path, switch, whole


@options
class ConfigOptions(Options):
    """Where other options are; not one of a command's own."""

    config: str | None = option(
        "YAML file of options, or a run.json; flags on the command line take precedence (--no-NAME turns one off)",
        kind=path,
        metavar="FILE",
        default=None,
    )


@options
class JsonOptions(Options):
    """What `preftree.labeling.cli` does with a command's result; not one of a command's own."""

    json: bool = option("print one JSON object instead of lines; docs/json.md has its fields", switch, default=False)


@options
class TemplatesOptions(Options):
    """`preftree templates`."""

    name: str | None = option("show this one whole", metavar="NAME|FILE", flag="", default=None)


@options
class FetchOptions(Options):
    """`preftree fetch-model`."""

    model: Literal["embedded"] = option("embedded", one_of("embedded"), "MODEL", flag="", default="embedded")
    install: bool = option(
        "install its data package into this Python environment, instead of a file in the user's cache",
        switch,
        default=False,
    )


@options
class DoctorOptions(Options):
    """`preftree doctor`."""

    model: str | None = option(
        "embedded, a Hugging Face directory, a .gguf, or a name on the Hugging Face hub",
        metavar="MODEL",
        flag="",
        default=None,
    )
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
    offline: bool = option(
        "take a model of the Hugging Face hub from the cache only", switch, requires=("model",), default=False
    )
