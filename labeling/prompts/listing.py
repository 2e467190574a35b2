"""The templates that come with preftree, for people: all of them in a table, or one as it is written."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from preftree.labeling.prompts.catalogue import Template, load_template, template_names
from preftree.labeling.result import Result
from preftree.labeling.terminal import WIDTH, one_line, visible

_LABELS_SHOWN = 4


def template_lines(name: str | None) -> Result:
    """A line for each built-in template; or the whole file of the template `name`, built-in or a file of yours.

    Raises InputError for a name that is unknown, and for a file with a mistake, with its line.
    """
    if name is not None:
        template = load_template(name)
        return Result([visible(template.source.rstrip("\n"))], _about(template) | {"source": template.source})
    templates = [load_template(built_in) for built_in in template_names()]
    rows = [("name", "asks about", "labels")]
    rows += [(one.name, _kind(one), _labels(one)) for one in templates]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    shown = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = [shown[0]]
    for line, template in zip(shown[1:], templates, strict=True):
        about = wrap(one_line(template.description), WIDTH, initial_indent="    ", subsequent_indent="    ")
        lines += [line, *about]
    return Result(lines, {"templates": [_about(one) for one in templates]})


def _about(template: Template) -> dict[str, Any]:
    """For `--json`."""
    return {
        "name": template.name,
        "asks_about": _kind(template),
        "labels": list(template.labels),
        "description": template.description,
    }


def _kind(template: Template) -> str:
    kind = "a pair" if template.num_responses == 2 else "one response"
    shown = ["a principle"] if template.shows_principle else []
    return one_line(", ".join((kind, *shown, *(column.name for column in template.columns))))


def _labels(template: Template) -> str:
    labels = [one_line(label) for label in template.labels]
    if len(labels) > _LABELS_SHOWN:
        return f"{labels[0]} ... {labels[-1]}"
    return ", ".join(labels)
