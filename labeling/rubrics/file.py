"""A rubric for all rows, from a YAML or JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from preftree.engine.errors import InputError
from preftree.labeling.rubrics.rubric import Rubric
from preftree.labeling.rubrics.shapes import rubric_of
from preftree.labeling.yaml_file import YamlText, json_as_yaml, read_text

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_NULL = "tag:yaml.org,2002:null"


def load_rubric(path: str) -> Rubric:
    """The rubric in a file. InputError naming the file for whatever is wrong with it."""
    return parse_rubric(read_text(Path(path), f"rubric {path}"), path)


def parse_rubric(source: str, name: str) -> Rubric:
    """The rubric in a file's text. name: of the file, for messages."""
    file = YamlText(json_as_yaml(source), name)
    value = _value(file, file.tree, set()) if file.tree is not None else []
    try:
        return rubric_of(value)
    except InputError as error:
        raise InputError(f"rubric {name}: {error}") from None


def _value(file: YamlText, node: yaml.Node, seen: set[int]) -> Any:
    """The JSON value of a node; texts such as yes stay texts.

    seen: nodes so far; a node that is there twice is an alias, and aliases of aliases grow without bounds.
    """
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if id(node) in seen:
        raise file.error(node, "is used twice (an alias); write it out")
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_value(file, item, seen) for item in node.value]
    return {name: _value(file, entry, seen) for name, entry in file.entries(node, "an object").items()}


def _scalar(node: yaml.ScalarNode) -> Any:
    if node.tag == _NULL:
        return None
    if node.tag in _NUMBERS:
        try:
            return float(node.value)
        except ValueError:  # YAML knows more ways to write a number than people
            pass
    return node.value
