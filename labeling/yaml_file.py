"""YAML texts, and YAML heads of text files, as nodes that know their lines: a mistake is named with its place.

Scalars are read as they are written: `yes`, `010` and `1` are texts where a text is wanted, quoted or not.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import yaml

from preftree.engine.errors import InputError
from preftree.labeling.regular_file import NotRegularError, open_regular
from preftree.labeling.terminal import one_line

MAX_BYTES = 1_000_000

_STANDARD = "tag:yaml.org,2002:"
_FLAGS = {"true": True, "false": False}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def read_text(path: Path, what: str) -> str:
    """A text file. InputError for one that is not there, no UTF-8, or much larger than people write, and for what only
    looks like a file: a pipe may never be written to, a device never end.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{what} is larger than {MAX_BYTES:,} bytes")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except NotRegularError as error:
        raise InputError(f"{what} is no regular file: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{what} cannot be read: {getattr(error, 'strerror', None) or one_line(str(error))}") from None


def json_as_yaml(source: str) -> str:
    """JSON in the part of it that YAML has in common, line by line; what is no JSON stays as it is."""
    try:
        json.loads(source)
    except (ValueError, RecursionError):
        return source

    def in_yaml(string: re.Match[str]) -> str:
        text = json.loads(string.group())
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'

    return _STRING.sub(in_yaml, source).replace("\t", " ")


class YamlText:
    """A YAML text whose nodes know their lines.

    Attributes:
        name: of the file, for messages.
        tree: its root; None where it is empty.
    """

    def __init__(self, text: str, name: str, first_line: int = 1, what: str = "") -> None:
        """InputError for what is no YAML. first_line: of `text` in the file, from 1. what: the text, for messages."""
        self._text = text
        self.name = name
        self._first_line = first_line
        self._what = what
        self.tree = self._composed()

    def error(self, place: yaml.Node | int | None, message: str) -> InputError:
        """With the line of a node, or of an index into the text; the first line where there is none."""
        index = place.start_mark.index if isinstance(place, yaml.Node) else place or 0
        return InputError(f"{self.name}:{self._line(index)}: {message}")

    def line(self, node: yaml.Node) -> int:
        """The line of the file where a node begins."""
        return self._line(node.start_mark.index)

    def text(self, node: yaml.Node, what: str) -> str:
        """A text as it is written; it may be blank, or empty between quotes."""
        if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith(_STANDARD):
            raise self.error(node, f"{what} must be a text")
        value: str = node.value
        return value

    def scalar(self, node: yaml.Node, what: str) -> str:
        """A text as it is written, not blank."""
        value = self.text(node, what)
        if node.tag == f"{_STANDARD}null" or not value.strip():
            raise self.error(node, f"{what} must be a non-empty text (in quotes, if it is meant so)")
        return value

    def number(self, node: yaml.Node, what: str) -> float:
        """A finite number, without quotes."""
        try:
            value = float(node.value) if isinstance(node, yaml.ScalarNode) and node.style is None else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(node, f"{what} must be a finite number, without quotes")
        return value

    def items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        """The nodes of a list."""
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, f"{what} must be a list")
        return list(node.value)

    def entries(self, node: yaml.Node, what: str) -> dict[str, yaml.Node]:
        """The nodes of a mapping by key. InputError for a key that is no text, or is there twice."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} must be `key: value` lines")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.scalar(key, f"a key of {what}")
            if name in found:
                raise self.error(key, f"{what} has {name!r} twice")
            found[name] = value
        return found

    def _composed(self) -> yaml.Node | None:
        try:
            return yaml.compose(self._text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = f"is not YAML: {one_line(error.problem or str(error))}"
            raise self._broken(mark.index if mark else 0, problem) from None
        except yaml.reader.ReaderError as error:
            raise self._broken(error.position, f"holds the control character U+{error.character:04X}") from None
        except RecursionError:
            raise self._broken(0, "is nested too deeply") from None

    def _broken(self, index: int, problem: str) -> InputError:
        return self.error(index, f"{self._what} {problem}".lstrip())

    def _line(self, index: int) -> int:
        # YAML counts rarer characters as line ends, too; editors do not.
        return self._first_line + self._text.count("\n", 0, index)


class FrontMatter(YamlText):
    """A mapping of known keys."""

    def __init__(self, text: str, name: str, first_line: int, what: str = "front matter") -> None:
        """InputError for what is no YAML, no mapping, or says a key twice. what: the mapping, for messages."""
        super().__init__(text, name, first_line, what)
        if self.tree is None:
            raise self.error(None, f"{what} is empty")
        self._whole = self.tree
        self._entries = self.entries(self._whole, what)

    @property
    def lines(self) -> dict[str, int]:
        """Line of the file by key."""
        return {key.value: self._line(key.start_mark.index) for key, _ in self._whole.value}

    @property
    def nodes(self) -> dict[yaml.ScalarNode, yaml.Node]:
        """Key and value of every entry."""
        return dict(self._whole.value)

    def check_keys(self, known: tuple[str, ...]) -> None:
        """InputError for a key that is none of these."""
        for key, _ in self._whole.value:
            if key.value not in known:
                message = f"unknown front matter key {key.value!r}; known: {', '.join(sorted(known))}"
                raise self.error(key, message)

    def get(self, key: str) -> yaml.Node | None:
        """None for a key that is missing, empty or null."""
        node = self._entries.get(key)
        return None if node is None or node.tag == f"{_STANDARD}null" else node

    def need(self, key: str, example: str = "") -> yaml.Node:
        """InputError, which shows `example`, for a key that is missing, empty or null."""
        node = self.get(key)
        if node is None:
            raise self.error(self._entries.get(key), f"front matter needs {key!r}{example and f', {example}'}")
        return node

    def flag(self, key: str) -> bool:
        """True or false; false where the key is missing."""
        node = self._entries.get(key)
        if node is None:
            return False
        value = _FLAGS.get(node.value.lower()) if isinstance(node, yaml.ScalarNode) else None
        if value is None:
            raise self.error(node, f"{key!r} must be true or false")
        return value
