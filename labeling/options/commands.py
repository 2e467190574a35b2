"""Of the other commands."""

from __future__ import annotations

from preftree.labeling.options.option import Options, option, options
from preftree.labeling.values import dtype_name, path, switch, whole


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
class JsonOptions(Options):
    """What `preftree.labeling.cli` does with a command's result; not one of a command's own."""

    json: bool = option("print one JSON object instead of lines; docs/json.md has its fields", switch, default=False)


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
