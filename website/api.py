"""Pages of the Python API: directives that mkdocstrings replaces by docstrings, and tables of options."""

from __future__ import annotations

from collections.abc import Iterator

import preftree
from preftree.labeling.options.option import Options, declared, defaults
from website.commands import cell

# What `preftree` offers, by page; a test compares with its `__all__`.
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "labelling": ("Labelling", ("label", "label_file", "Labels", "PairLabeler")),
    "models": ("Judges and reward models", ("Judge", "RewardModel")),
    "methods": ("Methods", ("Rlaif", "Salmon", "Direct", "Rubric", "Ranking", "Principled", "Reward")),
    "rows": ("Rows", ("Message", "Pair", "Response", "ResponseSet")),
    "engine": (
        "The engine",
        ("Engine", "Planner", "JobPlan", "Sampling", "Generation", "LabelScores", "RationaleScores"),
    ),
    "errors": ("Errors", ("PreftreeError", "InputError", "ModelError", "OutputError", "UsageError")),
}


def api_pages() -> dict[str, str]:
    """Markdown by page."""
    return {page: "\n".join(_page(title, names)) + "\n" for page, (title, names) in PAGES.items()}


def _page(title: str, names: tuple[str, ...]) -> Iterator[str]:
    yield from (f"# {title}", "", "Generated from docstrings. [Python](../python.md) has examples.")
    for name in names:
        value = getattr(preftree, name)
        options = isinstance(value, type) and issubclass(value, Options)
        yield from _options(name, value) if options else ("", f"::: preftree.{name}")


def _options(name: str, kind: type[Options]) -> Iterator[str]:
    default = defaults(kind)
    yield from ("", f"## preftree.{name}", "", "| argument | default | what it does |", "|---|---|---|")
    for one, option in declared(kind).items():
        value = f"`{default[one]!r}`" if one in default else "required"
        yield f"| `{one}` | {value} | {cell(option.help)} |"
