"""Files of principles: YAML or JSON, read as a tree whose nodes know their places."""

from __future__ import annotations

from collections.abc import Callable

from yaml import Node, SequenceNode

from preftree.labeling.principles.principle import (
    Principle,
    name_problem,
    one_spaced,
    statement_problem,
    weight_problem,
)
from preftree.labeling.terminal import one_line
from preftree.labeling.yaml_file import YamlText, json_as_yaml

_REQUIRED = ("name", "positive")
_FIELDS = (*_REQUIRED, "negative", "weight", "tags")
# As the principle collections released with SALMON (Sun et al. 2023) spell them.
_SALMON = {"dimension": "name", "definition": "positive", "negative_definition": "negative"}


def parse_principles(source: str, name: str) -> tuple[Principle, ...]:
    """The principles in a file's text, one or more, whose names differ in more than case.

    InputError "name:line: ..." for the first thing that is wrong. name: of the file.
    """
    file = YamlText(json_as_yaml(source), name)
    if not isinstance(file.tree, SequenceNode):
        raise file.error(file.tree, "must be a list of principles, each with name, positive, negative (optional)")
    if not file.tree.value:
        raise file.error(file.tree, "holds no principles")
    found: dict[str, Principle] = {}
    for node in file.tree.value:
        principle = _principle(file, node)
        if principle.name.casefold() in found:
            raise file.error(node, f"another principle is called {principle.name!r}, too")
        found[principle.name.casefold()] = principle
    if not any(principle.weight for principle in found.values()):
        raise file.error(file.tree, "all weights are 0, so that no principle would decide")
    return tuple(found.values())


def _principle(file: YamlText, node: Node) -> Principle:
    fields = _fields(file, node)
    weight = file.number(fields["weight"][1], "weight") if "weight" in fields else 1.0
    if problem := weight_problem(weight):
        raise file.error(fields["weight"][1], f"weight {problem}")
    tags = file.items(fields["tags"][1], "tags") if "tags" in fields else []
    return Principle(
        name=_text(file, *fields["name"], name_problem),
        positive=_text(file, *fields["positive"], statement_problem),
        negative=_text(file, *fields["negative"], statement_problem) if "negative" in fields else None,
        weight=weight,
        tags=tuple(_text(file, "a tag", tag, name_problem) for tag in tags),
    )


def _fields(file: YamlText, node: Node) -> dict[str, tuple[str, Node]]:
    """How each field is spelled, and its node, by our name of the field; all those that are required."""
    fields: dict[str, tuple[str, Node]] = {}
    for spelling, value in file.entries(node, "a principle").items():
        name = _SALMON.get(spelling, spelling)
        if name not in _FIELDS:
            known = f"{', '.join(_FIELDS)}, or {', '.join(_SALMON)}"
            raise file.error(value, f"unknown field {one_line(spelling)!r}; known: {known}")
        if name in fields:
            raise file.error(value, f"{fields[name][0]!r} and {spelling!r} of a principle are the same field")
        fields[name] = spelling, value
    if missing := [name for name in _REQUIRED if name not in fields]:
        raise file.error(node, f"a principle lacks {missing[0]}")
    return fields


def _text(file: YamlText, what: str, node: Node, problem_of: Callable[[str], str | None]) -> str:
    text = file.scalar(node, what)
    if problem := problem_of(text):
        raise file.error(node, f"{what} {problem}")
    return one_spaced(text)
