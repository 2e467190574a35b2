"""The sample of a template, in Jinja.

A sample that does nothing but show variables is put together here. Anything else that Jinja's sandbox allows ({% if %},
{% for %}, filters) runs in a process of its own with little time and memory, so a template that somebody else wrote can
neither run for ever nor fill the memory. Texts of rows are values of variables: they are never read as Jinja.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from preftree.engine.errors import InputError
from preftree.engine.sandbox import Sandbox, TemplateFailure
from preftree.labeling.terminal import one_line

PAIR, SINGLE = ("response_1", "response_2"), ("response",)
SCALE = ("low", "high")
VARIABLES = ("prompt", *PAIR, *SINGLE, "principle", *SCALE)
# A place can show a whole row, of up to 16 MB, and a template of many places could still show many gigabytes.
MAX_SAMPLE_CHARACTERS = 64 * 1024**2

_ENVIRONMENT = ImmutableSandboxedEnvironment()  # parses; what is rendered is rendered elsewhere
_FIXED = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name)
_OTHER_FILES = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_OF_MACROS = frozenset({"loop", "caller", "varargs", "kwargs"})


@dataclass(frozen=True)
class Piece:
    """A stretch of a sample as it is read: fixed text, where `names` is empty, or a place that shows these variables.

    line: in the template's file.
    """

    line: int
    names: frozenset[str]
    text: str = ""


@dataclass(frozen=True)
class Body:
    """A sample that has been checked. source: in Jinja. name, first_line: of the file and in it, for messages."""

    source: str
    name: str
    first_line: int

    @classmethod
    def checked(cls, source: str, name: str, first_line: int) -> Body:
        """InputError, with the line, for what is no Jinja, or shows what no sample has."""
        body = cls(source, name, first_line)
        try:
            tree = body._tree
        except jinja2.TemplateSyntaxError as error:
            raise body._error(error.lineno, one_line(str(error))) from None
        except Exception as error:  # the parser recurses, and Python reads its numbers: both have their limits
            raise body._error(1, one_line(str(error)) or type(error).__name__) from None
        body._check_names(tree)
        body._check_responses()
        if not body._is_fixed:
            try:
                body._sandbox.compile()
            except TemplateFailure as failure:
                raise body._error(failure.line, f"the template {one_line(str(failure))}") from None
        return body

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that the sample shows or asks about."""
        return _names(self._tree)

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
            elif isinstance(node, nodes.Name) and node.name in VARIABLES:
                parts.append(known.get(node.name, place))
        return "".join(parts)

    def render(self, variables: Mapping[str, str]) -> str:
        """InputError, with the line, when a variable is missing or the text grows beyond MAX_SAMPLE_CHARACTERS."""
        try:
            return self._filled(variables) if self._is_fixed else self._sandbox.render(variables)
        except TemplateFailure as failure:
            raise self._error(failure.line, f"the template {one_line(str(failure))}") from None

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

    @cached_property
    def _tree(self) -> nodes.Template:
        return _ENVIRONMENT.parse(self.source)

    @cached_property
    def _is_fixed(self) -> bool:
        """Whether there is nothing to run."""
        found = list(_descendants(self._tree))
        names = {node.name for node in found if isinstance(node, nodes.Name)}
        return names <= set(VARIABLES) and all(isinstance(node, _FIXED) for node in found)

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(self.source, "plain", MAX_SAMPLE_CHARACTERS)

    def _check_names(self, tree: nodes.Template) -> None:
        made = _OF_MACROS | {node.name for node in _descendants(tree) if isinstance(node, nodes.Macro)}
        made |= {node.name for node in _descendants(tree) if isinstance(node, nodes.Name) and node.ctx != "load"}
        for node in _descendants(tree):
            if isinstance(node, _OTHER_FILES):
                raise self._error(node.lineno, "a template is one file, and takes in no other")
            if isinstance(node, nodes.Name) and node.name not in {*VARIABLES, *made, *_ENVIRONMENT.globals}:
                raise self._error(node.lineno, f"unknown variable {node.name!r}; known: {', '.join(VARIABLES)}")

    def _check_responses(self) -> None:
        shown = self.variables
        if "response" in shown and shown & set(PAIR):
            raise self._error(1, "the sample shows {{ response }} and a pair; it must be one of them")
        for variable in () if "response" in shown else PAIR:
            if variable not in shown:
                raise self._error(1, f"the sample never shows {{{{ {variable} }}}}")

    def _pieces(self, tree: nodes.Node) -> Iterator[Piece]:
        for node in tree.iter_child_nodes():
            if isinstance(node, nodes.TemplateData):
                yield Piece(self._line(node.lineno), frozenset(), node.data)
            elif isinstance(node, nodes.Output):
                yield from self._pieces(node)
            else:
                yield Piece(self._line(node.lineno), _names(node))

    def _line(self, line: int | None) -> int:
        return self.first_line + (line or 1) - 1

    def _error(self, line: int | None, message: str) -> InputError:
        return InputError(f"{self.name}:{self._line(line)}: {message}")


def _descendants(tree: nodes.Node) -> Iterator[nodes.Node]:
    """In order of the source, without recursion."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(list(node.iter_child_nodes())))


def _names(tree: nodes.Node) -> frozenset[str]:
    """Of the variables of a sample that are read in `tree`."""
    found = (node.name for node in _descendants(tree) if isinstance(node, nodes.Name) and node.ctx == "load")
    return frozenset(found) & set(VARIABLES)
