"""The templates that come with preftree, for people: all of them in a table, or one as it is written."""

from __future__ import annotations

from collections.abc import Iterator

from preftree.labeling.prompts.catalogue import Template, load_template, template_names
from preftree.labeling.terminal import one_line, visible

_LABELS_SHOWN = 4


def template_lines(name: str | None) -> Iterator[str]:
    """A line for each built-in template; or the whole file of the template `name`, built-in or a file of yours.

    Raises InputError for a name that is unknown, and for a file with a mistake, with its line.
    """
    if name is not None:
        yield visible(load_template(name).source.rstrip("\n"))
        return
    rows = [("name", "asks about", "labels", "description")]
    for built_in in template_names():
        template = load_template(built_in)
        rows.append((built_in, _kind(template), _labels(template), one_line(template.description)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False))
        yield "  ".join((*cells, row[-1]))


def _kind(template: Template) -> str:
    kind = "a pair" if template.num_responses == 2 else "one response"
    shown = ["a principle"] if template.shows_principle else []
    return one_line(", ".join((kind, *shown, *(column.name for column in template.columns))))


def _labels(template: Template) -> str:
    labels = [one_line(label) for label in template.labels]
    if len(labels) > _LABELS_SHOWN:
        return f"{labels[0]} ... {labels[-1]}"
    return ", ".join(labels)
