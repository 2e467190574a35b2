"""Pages of the Python API: directives that mkdocstrings replaces by docstrings, and tables of options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
# Modules with names of their own, by page.
MODULES = {
    "integrations": ("Other frameworks", ("trl", "openrlhf", "verl", "slime", "areal", "swift", "lm_eval")),
}


def api_pages() -> dict[str, str]:
    """Markdown by page."""
    pages = {page: _page(title, map(_shown, names)) for page, (title, names) in PAGES.items()}
    for package, (title, names) in MODULES.items():
        pages[package] = _page(title, (f"::: preftree.{package}.{name}" for name in names))
    return pages


def _page(title: str, parts: Iterable[str]) -> str:
    head = (f"# {title}", "Generated from docstrings. [Python](../python.md) has examples.")
    return "\n\n".join((*head, *parts)) + "\n"


def _shown(name: str) -> str:
    value = getattr(preftree, name)
    is_options = isinstance(value, type) and issubclass(value, Options)
    return "\n".join(_options(name, value)) if is_options else f"::: preftree.{name}"


def _options(name: str, kind: type[Options]) -> Iterator[str]:
    default = defaults(kind)
    yield from (
        f"## preftree.{name}",
        "",
        str(kind.__doc__),
        "",
        "| argument | default | what it does |",
        "|---|---|---|",
    )
    for one, option in declared(kind).items():
        value = f"`{default[one]!r}`" if one in default else "required"
        yield f"| `{one}` | {value} | {cell(option.help)} |"
