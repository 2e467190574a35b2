"""Files of principles: YAML or JSON, read as a tree whose nodes know their places."""

from __future__ import annotations

import re

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from preftree.engine.errors import InputError
from preftree.labeling.principles.principle import (
    Principle,
    name_problem,
    one_spaced,
    statement_problem,
    weight_problem,
)
from preftree.labeling.terminal import one_line
from preftree.labeling.yaml_file import compose, json_as_yaml

_REQUIRED = ("name", "positive", "negative")
_FIELDS = (*_REQUIRED, "weight", "tags")
_STANDARD = "tag:yaml.org,2002:"
# YAML 1.1 would read 1e3 as a text and 1:30 as 90.
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\.inf|\.nan", re.IGNORECASE)


def parse_principles(source: str, name: str) -> tuple[Principle, ...]:
    """The principles in a file's text, one or more, whose names differ in more than case.

    InputError "name:line: field: ..." for the first thing that is wrong. name: of the file.
    """
    return _PrincipleFile(json_as_yaml(source), name).principles()


class _PrincipleFile:
    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name

    def principles(self) -> tuple[Principle, ...]:
        tree = compose(self._text, self._error)
        if not isinstance(tree, SequenceNode):
            raise self._error(tree, f"must be a list of principles, each with {', '.join(_REQUIRED)}")
        if not tree.value:
            raise self._error(tree, "holds no principles")
        found: dict[str, Principle] = {}
        for node in tree.value:
            principle = self._principle(node)
            if principle.name.casefold() in found:
                raise self._error(node, f"name: another principle is called {principle.name!r}, too")
            found[principle.name.casefold()] = principle
        if not any(principle.weight for principle in found.values()):
            raise self._error(tree, "weight: all are 0, so that no principle would decide")
        return tuple(found.values())

    def _principle(self, node: Node) -> Principle:
        fields = self._fields(node)
        return Principle(
            name=self._label(fields["name"], "name"),
            positive=self._statement(fields["positive"], "positive"),
            negative=self._statement(fields["negative"], "negative"),
            weight=self._weight(fields["weight"]) if "weight" in fields else 1.0,
            tags=self._tags(fields["tags"]) if "tags" in fields else (),
        )

    def _fields(self, node: Node) -> dict[str, Node]:
        if not isinstance(node, MappingNode):
            raise self._error(node, f"a principle must have {', '.join(_REQUIRED)}; found {_kind(node)}")
        fields: dict[str, Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else _kind(key)
            if name not in _FIELDS:
                raise self._error(key, f"unknown field {one_line(name)!r}; known: {', '.join(_FIELDS)}")
            if name in fields:
                raise self._error(key, f"{name}: is there twice")
            fields[name] = value
        for name in _REQUIRED:
            if name not in fields:
                raise self._error(node, f"{name}: is missing")
        return fields

    def _label(self, node: Node, field: str) -> str:
        text = self._string(node, field)
        if problem := name_problem(text):
            raise self._error(node, f"{field}: {problem}")
        return one_spaced(text)

    def _statement(self, node: Node, field: str) -> str:
        text = self._string(node, field)
        if problem := statement_problem(text):
            raise self._error(node, f"{field}: {problem}")
        return one_spaced(text)

    def _weight(self, node: Node) -> float:
        if not isinstance(node, ScalarNode) or node.style is not None or not _NUMBER.fullmatch(node.value):
            raise self._error(node, f"weight: must be a number, found {_kind(node)}")
        weight = float(re.sub(r"\.(?=inf|nan)", "", node.value, flags=re.IGNORECASE))
        if problem := weight_problem(weight):
            raise self._error(node, f"weight: {problem}, found {node.value}")
        return weight

    def _tags(self, node: Node) -> tuple[str, ...]:
        if not isinstance(node, SequenceNode):
            raise self._error(node, f"tags: must be a list of texts, found {_kind(node)}")
        return tuple(self._label(tag, "tags") for tag in node.value)

    def _string(self, node: Node, field: str) -> str:
        if not isinstance(node, ScalarNode) or node.tag != f"{_STANDARD}str":
            hint = " (quote it)" if isinstance(node, ScalarNode) and node.value else ""
            raise self._error(node, f"{field}: must be a text, found {_kind(node)}{hint}")
        text: str = node.value
        return text

    def _error(self, place: Node | int | None, problem: str) -> InputError:
        """place: an index into the text, or a node; the first line where there is none."""
        index = place.start_mark.index if isinstance(place, Node) else place or 0
        # YAML counts rarer characters as line ends, too; editors do not.
        return InputError(f"{self._name}:{self._text.count(chr(10), 0, index) + 1}: {problem}")


def _kind(node: Node) -> str:
    if isinstance(node, SequenceNode):
        return "a list"
    if isinstance(node, MappingNode):
        return "an object"
    tag = node.tag.removeprefix(_STANDARD)
    known = {"str": "a text", "null": "nothing", "bool": "true or false", "int": "a number", "float": "a number"}
    return known.get(tag, f"a value of the type {one_line(tag)}")
