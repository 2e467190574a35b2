"""The parts of a template that hold variables, in Jinja.

A part that does nothing but show variables is put together here. Anything else that Jinja's sandbox allows ({% if %},
{% for %}, filters) runs in a process of its own with little time and memory, so a template that somebody else wrote can
neither run for ever nor fill the memory. Texts of rows are values of variables: they are never read as Jinja.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from preftree.engine.errors import InputError
from preftree.engine.sandbox import Sandbox, TemplateFailure
from preftree.labeling.data.column import Column, row_of
from preftree.labeling.terminal import one_line

PAIR, SINGLE = ("response_1", "response_2"), ("response",)
SCALE = ("low", "high")
PRINCIPLE = ("principle", "principle_name")
ROW = "row"
VARIABLES = ("prompt", *PAIR, *SINGLE, *PRINCIPLE, *SCALE, ROW)
# A place can show a whole row, of up to 16 MB, and a template of many places could still show many gigabytes.
MAX_SAMPLE_CHARACTERS = 64 * 1024**2

# Parses; what is rendered is rendered elsewhere. A line feed at the end of an answer is the answer's.
_ENVIRONMENT = ImmutableSandboxedEnvironment(keep_trailing_newline=True)
_OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_OF_MACROS = frozenset({"loop", "caller", "varargs", "kwargs"})
_OF_OBJECTS = frozenset(dir({}))  # Jinja takes `row.items` for a method; row["items"] is a column


@dataclass(frozen=True)
class Piece:
    """A stretch of a body as it is read: fixed text, where `names` is empty, or a place that shows these variables.

    line: in the template's file.
    """

    line: int
    names: frozenset[str]
    text: str = ""


@dataclass(frozen=True)
class Body:
    """A part of a template that has been checked.

    Attributes:
        source: in Jinja.
        name: of the file, for messages.
        first_line: in that file.
        known: the variables that it may show.
        what: the part, for messages; "" for the sample.
        is_folded: whether all of it counts as one line of the file, as its line ends are not the file's.
    """

    source: str
    name: str
    first_line: int
    known: tuple[str, ...] = VARIABLES
    what: str = ""
    is_folded: bool = False

    def checked(self) -> Body:
        """Itself. InputError, with the line, for what is no Jinja, or shows what this part cannot."""
        try:
            tree = self._tree
        except jinja2.TemplateSyntaxError as error:
            raise self.error(error.lineno, one_line(str(error))) from None
        except Exception as error:  # the parser recurses, and Python reads its numbers: both have their limits
            raise self.error(1, one_line(str(error)) or type(error).__name__) from None
        self._check_names(tree)
        if not self._is_fixed:
            try:
                self._sandbox.compile()
            except TemplateFailure as failure:
                raise self.error(failure.line, f"the template {one_line(str(failure))}") from None
        return self

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that it shows or asks about; a column by its `Column.name`."""
        return self._names(self._tree)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the row among them, in the order in which they are first read."""
        return tuple(dict.fromkeys(column for _, column in self._rows(self._tree) if column))

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """In the order in which they are read."""
        return tuple(self._pieces(self._tree))

    def fixed_text(self, known: Mapping[str, str], place: str) -> str:
        """What is written between variables, in statements, too; `place` stands for each variable but the `known`."""
        parts = []
        for node in _descendants(self._tree):
            if isinstance(node, nodes.TemplateData):
                parts.append(node.data)
            elif isinstance(node, nodes.Name) and node.name in self.known:
                parts.append(known.get(node.name, place))
        return "".join(parts)

    def render(self, variables: Mapping[str, str]) -> str:
        """InputError, with the line, when a variable is missing or the text grows beyond MAX_SAMPLE_CHARACTERS."""
        try:
            return self._filled(variables) if self._is_fixed else self._sandbox.render(self._nested(variables))
        except TemplateFailure as failure:
            raise self.error(failure.line, f"the template {one_line(str(failure))}") from None

    def error(self, line: int | None, message: str) -> InputError:
        """With the line of the file. line: of this part."""
        what = self.what and f"{self.what}: "
        return InputError(f"{self.name}:{self._line(line)}: {what}{message}")

    def _filled(self, variables: Mapping[str, str]) -> str:
        parts, characters = [], 0
        for piece in self.pieces:
            for name in piece.names:
                if name not in variables:
                    raise TemplateFailure(f"fails ({name!r} is undefined)", piece.line - self.first_line + 1)
            parts.append("".join(variables[name] for name in piece.names) or piece.text)
            characters += len(parts[-1])
            if characters > MAX_SAMPLE_CHARACTERS:
                raise TemplateFailure(f"fails (it renders more than {MAX_SAMPLE_CHARACTERS:,} characters)")
        return "".join(parts)

    def _nested(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """The variables as Jinja reads them: columns are fields of `row`."""
        if not self.columns:
            return {**variables}
        return {**variables, ROW: row_of({column: variables[column.name] for column in self.columns})}

    @cached_property
    def _tree(self) -> nodes.Template:
        return _ENVIRONMENT.parse(self.source)

    @cached_property
    def _is_fixed(self) -> bool:
        """Whether there is nothing to run."""
        return all(
            isinstance(output, nodes.Output) and all(map(self._is_plain, output.nodes)) for output in self._tree.body
        )

    def _is_plain(self, node: nodes.Node) -> bool:
        """Whether an output is fixed text or one variable."""
        is_variable = isinstance(node, nodes.Name) and node.name in self.known
        return is_variable or isinstance(node, nodes.TemplateData) or self._column(node) is not None

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(self.source, "plain", MAX_SAMPLE_CHARACTERS)

    @cached_property
    def _made(self) -> frozenset[str]:
        """Names that the part itself gives a meaning."""
        found = list(_descendants(self._tree))
        macros = {node.name for node in found if isinstance(node, nodes.Macro)}
        return frozenset(macros | {node.name for node in found if isinstance(node, nodes.Name) and node.ctx != "load"})

    def _check_names(self, tree: nodes.Template) -> None:
        meant = {*self.known, *self._made, *_OF_MACROS, *_ENVIRONMENT.globals}
        for node in _descendants(tree):
            if isinstance(node, _OTHER_FILES):
                raise self.error(node.lineno, "a template is one file, and takes in no other")
            if isinstance(node, nodes.Name) and node.name not in meant:
                known = ", ".join("row.COLUMN" if name == ROW else name for name in self.known)
                raise self.error(node.lineno, f"unknown variable {node.name!r}; known: {known}")
        for line, column in self._rows(tree):
            if column is None:
                raise self.error(line, 'row needs a column\'s name, such as {{ row.title }} or {{ row["title"] }}')

    def _names(self, tree: nodes.Node) -> frozenset[str]:
        found = {node.name for node in _descendants(tree) if isinstance(node, nodes.Name) and node.ctx == "load"}
        columns = {column.name for _, column in self._rows(tree) if column}
        return frozenset(found & set(self.known) - {ROW} | columns)

    def _rows(self, tree: nodes.Node) -> Iterator[tuple[int, Column | None]]:
        """Lines that read `row`, and the column that is read there, None where it is none."""
        waiting = [] if ROW in self._made else [tree]
        while waiting:
            node = waiting.pop()
            if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and self._column(node.node.node):
                waiting.extend(child for child in node.iter_child_nodes() if child is not node.node)
                node = node.node.node  # whose text has the method that is called
            if (column := self._column(node)) or (isinstance(node, nodes.Name) and node.name == ROW):
                yield node.lineno, column
            else:
                waiting.extend(reversed(list(node.iter_child_nodes())))

    def _column(self, node: nodes.Node) -> Column | None:
        """The column that an expression is, such as row.info.title or row["title"]."""
        steps: list[str] = []
        while not isinstance(node, nodes.Name):
            if isinstance(node, nodes.Getattr) and node.attr not in _OF_OBJECTS:
                steps.append(node.attr)
            elif isinstance(node, nodes.Getitem) and isinstance(key := getattr(node.arg, "value", None), str):
                steps.append(key)
            else:
                return None
            node = node.node
        return Column(tuple(reversed(steps))) if steps and node.name == ROW else None

    def _pieces(self, tree: nodes.Node) -> Iterator[Piece]:
        for node in tree.iter_child_nodes():
            if isinstance(node, nodes.TemplateData):
                yield Piece(self._line(node.lineno), frozenset(), node.data)
            elif isinstance(node, nodes.Output):
                yield from self._pieces(node)
            else:
                yield Piece(self._line(node.lineno), self._names(node))

    def _line(self, line: int | None) -> int:
        return self.first_line + (0 if self.is_folded else (line or 1) - 1)


def _descendants(tree: nodes.Node) -> Iterator[nodes.Node]:
    """In order of the source, without recursion."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(list(node.iter_child_nodes())))
