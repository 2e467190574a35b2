"""The sample of a template: Jinja that shows variables and decides, but does not compute.

Of Jinja there are {{ variables }}, {% if %} with comparisons, {% raw %}, comments and a few filters without arguments.
No loops, calls, arithmetic or assignments: what is rendered is text of the template and text of the row, each place at
most once, so a template that somebody else wrote can neither run for ever nor fill the memory. It is Jinja's sandbox
all the same.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from preftree.engine.errors import InputError
from preftree.labeling.terminal import one_line

PAIR, SINGLE = ("response_1", "response_2"), ("response",)
SCALE = ("low", "high")
VARIABLES = ("prompt", *PAIR, *SINGLE, "principle", *SCALE)
FILTERS = ("trim", "upper", "lower", "capitalize", "title", "length", "wordcount")
# A place can show a whole row, of up to 16 MB, and a template of many places could still show many gigabytes.
MAX_SAMPLE_CHARACTERS = 64 * 1024**2

_LOGIC = (nodes.If, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand)
_VALUES = (nodes.Name, nodes.Const, nodes.Tuple, nodes.List)
_ALLOWED = (nodes.Template, nodes.Output, nodes.TemplateData, *_LOGIC, *_VALUES)
_TESTS = ("defined", "undefined")
_TAGS = {"Assign": "set", "AssignBlock": "set", "FilterBlock": "filter", "CallBlock": "call", "FromImport": "from"}
_TAGS |= {"Scope": "autoescape"}
_EXPRESSIONS = {"Call": "calls", "Getattr": "attributes", "Getitem": "items"}


@dataclass(frozen=True)
class Piece:
    """A stretch of a sample as it is read: fixed text, where `names` is empty, or a place that shows these variables.

    line: in the template's file. characters: of the fixed text.
    """

    line: int
    names: frozenset[str]
    characters: int = 0


@dataclass(frozen=True)
class Body:
    """A sample that has been checked. source: in Jinja. name, first_line: of the file and in it, for messages."""

    source: str
    name: str
    first_line: int

    @classmethod
    def checked(cls, source: str, name: str, first_line: int) -> Body:
        """InputError, with the line, for what is no Jinja, is not allowed, or shows what no sample has."""
        body = cls(source, name, first_line)
        try:
            tree = body._tree
            body._check_nodes(tree)
            body._check_responses()
            _ = body._compiled
        except InputError:
            raise
        except jinja2.TemplateSyntaxError as error:
            raise body._error(error.lineno, _reason(error)) from None
        except Exception as error:  # the parser recurses, and Python compiles what it made: both have their limits
            raise body._error(1, _reason(error)) from None
        return body

    @cached_property
    def variables(self) -> frozenset[str]:
        """The variables that the sample shows or asks about."""
        return _names(self._tree)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """In the order in which they are read."""
        return tuple(self._pieces(self._tree))

    def render(self, variables: Mapping[str, str]) -> str:
        """InputError, with the line, when a variable is missing or the text grows beyond MAX_SAMPLE_CHARACTERS."""
        parts, characters = [], 0
        try:
            for part in self._compiled.generate(**variables):
                parts.append(part)
                characters += len(part)
                if characters > MAX_SAMPLE_CHARACTERS:
                    raise InputError(f"template {self.name}: a sample of over {MAX_SAMPLE_CHARACTERS:,} characters")
        except InputError:
            raise
        except Exception as error:  # whatever an expression raises at run time is the template's mistake
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
            where = self._error(lines[-1] if lines else 1, f"cannot be rendered: {_reason(error)}")
            raise where from None
        return "".join(parts)

    @cached_property
    def _tree(self) -> nodes.Template:
        return _ENVIRONMENT.parse(self.source)

    @cached_property
    def _compiled(self) -> jinja2.Template:
        return _ENVIRONMENT.from_string(self.source)

    def _check_nodes(self, tree: nodes.Template) -> None:
        for node in _descendants(tree):
            if refused := _refused(node):
                allowed = f"it shows variables, with {{% if %}} and the filters {', '.join(FILTERS)}"
                raise self._error(node.lineno, f"a template has no {refused}; {allowed}")
            if isinstance(node, nodes.Name) and node.name not in VARIABLES:
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
                yield Piece(self._line(node.lineno), frozenset(), len(node.data))
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
    return frozenset(node.name for node in _descendants(tree) if isinstance(node, nodes.Name))


def _refused(node: nodes.Node) -> str | None:
    """What a template must not have, in the words of somebody who wrote it."""
    if isinstance(node, _ALLOWED):
        return None
    if isinstance(node, nodes.Filter):
        plain = not (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)
        return None if node.name in FILTERS and plain and node.node else f"filter {node.name!r} like this"
    if isinstance(node, nodes.Test):
        return None if node.name in _TESTS else f"test {node.name!r}"
    if isinstance(node, nodes.Stmt):
        tag = _TAGS.get(type(node).__name__, type(node).__name__.lower())
        return f"{{% {tag} %}}"
    if isinstance(node, nodes.BinExpr | nodes.UnaryExpr | nodes.Concat):
        return "arithmetic"
    kind = type(node).__name__
    return _EXPRESSIONS.get(kind, f"expression of the kind {kind}")


def _reason(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__


_FILE = "<template>"
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
