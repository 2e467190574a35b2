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

_REQUIRED = ("name", "positive", "negative")
_FIELDS = (*_REQUIRED, "weight", "tags")


def parse_principles(source: str, name: str) -> tuple[Principle, ...]:
    """The principles in a file's text, one or more, whose names differ in more than case.

    InputError "name:line: ..." for the first thing that is wrong. name: of the file.
    """
    file = YamlText(json_as_yaml(source), name)
    if not isinstance(file.tree, SequenceNode):
        raise file.error(file.tree, f"must be a list of principles, each with {', '.join(_REQUIRED)}")
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
    fields = file.entries(node, "a principle")
    for name, value in fields.items():
        if name not in _FIELDS:
            raise file.error(value, f"unknown field {one_line(name)!r}; known: {', '.join(_FIELDS)}")
    if missing := [name for name in _REQUIRED if name not in fields]:
        raise file.error(node, f"a principle lacks {missing[0]}")
    weight = file.number(fields["weight"], "weight") if "weight" in fields else 1.0
    if problem := weight_problem(weight):
        raise file.error(fields["weight"], f"weight {problem}")
    tags = file.items(fields["tags"], "tags") if "tags" in fields else []
    return Principle(
        name=_text(file, fields["name"], "name", name_problem),
        positive=_text(file, fields["positive"], "positive", statement_problem),
        negative=_text(file, fields["negative"], "negative", statement_problem),
        weight=weight,
        tags=tuple(_text(file, tag, "a tag", name_problem) for tag in tags),
    )


def _text(file: YamlText, node: Node, what: str, problem_of: Callable[[str], str | None]) -> str:
    text = file.scalar(node, what)
    if problem := problem_of(text):
        raise file.error(node, f"{what} {problem}")
    return one_spaced(text)
