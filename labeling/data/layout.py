"""How the columns of an input become samples: recognised once for the file, by its first rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from preftree.engine.errors import InputError
from preftree.labeling.data.columns import Kind
from preftree.labeling.data.mapping import ColumnMapping
from preftree.labeling.data.row import OWN_FIELDS, BadRow, fields_of, identity_of, to_item
from preftree.labeling.data.shapes import OTHERS, OWN, PREFERENCE, Shape, preference_name
from preftree.labeling.data.source import Source
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected, Sample

_ROWS_LOOKED_AT = 100
_PAIR = {"prompt", "response_a", "response_b"}
_RESPONSES = ("response", "responses")
# With one of these, `chosen` and `rejected` are answers to it, and not texts that hold their prompt.
_LIKE_A_PROMPT = ("instruction", "question", "query", "input", "context", "problem", "messages", "conversation")


class Look(NamedTuple):
    """What a row looks like. fields: of the sample that it seems to be. responses: its list of them, if it has one.
    extra: the columns that pass through.
    """

    fields: tuple[str, ...]
    has_gold: bool
    responses: Any
    extra: dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """about: what was recognised, for people."""

    shape: Shape
    mapping: ColumnMapping
    about: str

    def item(self, row: dict[str, Any], line: int) -> Sample | Rejected:
        """The sample in a row of the source, or the first thing that is wrong with it."""
        row = self.mapping.applied(row)
        if self.shape.convert is None:
            return to_item(row, line)
        extra = self._others(row)
        try:
            fields = self.shape.convert(row)
        except BadRow as error:
            return Rejected(line, str(error), identity_of(row, line), MappingProxyType(extra))
        return to_item({"id": row.get("id"), **fields, **extra}, line)

    def identity(self, row: dict[str, Any], line: int) -> str | None:
        """The id of a row of the source, which may lack all but the `id_columns`; None for a bad one."""
        return identity_of(self.mapping.applied(row), line)

    def id_columns(self, columns: Collection[str]) -> list[str]:
        """Of the columns of a source, those that its rows' ids come from."""
        path = self.mapping.columns.get("id", "id")
        return [name for name in dict.fromkeys((path, path.split(".")[0])) if name in columns]

    def look(self, row: dict[str, Any]) -> Look:
        """Without checking anything."""
        row = self.mapping.applied(row)
        if self.shape.fields is not None:
            responses = row.get(self.shape.responses or "")
            return Look(self.shape.fields, self.shape.gold in row, responses, self._others(row))
        own = fields_of(row)
        extra = {name: value for name, value in row.items() if name not in own}
        return Look(own, "gold" in own and "gold" in row, row["responses"] if "responses" in own else None, extra)

    def kinds(self, columns: Mapping[str, Kind]) -> dict[str, Kind]:
        """Of the columns that pass through, where every row has the same ones. columns: of the source."""
        names = {name: name for name in (*columns, *self.mapping.columns.values())}
        return {name: columns[column] for name, column in self.look(names).extra.items()}

    def _others(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What passes through; a name that a sample needs for itself gets "input_" in front."""
        read = self.shape.columns
        return {
            f"input_{name}" if name in OWN_FIELDS else name: value for name, value in row.items() if name not in read
        }


def recognise(source: Source, mapping: ColumnMapping) -> Layout:
    """From the first good rows of a source. InputError for columns that are unknown, or could be two things."""
    with closing(source.rows()) as rows:
        head = list(islice((row for _, row in rows if isinstance(row, dict)), _ROWS_LOOKED_AT))
    if not head:
        return Layout(OWN, mapping, "no row that can be read")
    mapping.check(head, str(source.path))
    head = [mapping.applied(row) for row in head]
    columns = list(dict.fromkeys(name for row in head for name in row))
    shape = _shape(source, columns, mapping)
    return Layout(shape, mapping, _about(source, shape, columns, head))


def no_rows(path: str | Path) -> InputError:
    return InputError(f"{path} holds no rows; each must have a prompt and its responses")


def _shape(source: Source, columns: Collection[str], mapping: ColumnMapping) -> Shape:
    if not columns:
        raise no_rows(source.path)
    present = set(columns)
    fitting = [shape for shape in OTHERS if present.issuperset(shape.needs)]
    if "prompt" in present and present.intersection(_RESPONSES):
        fitting.insert(0, OWN)
    if present >= _PAIR:
        fitting = [OWN]
    if fields := mapping.columns.keys():
        fitting = [shape for shape in fitting if fields <= set(shape.columns)]
    if len(fitting) == 1:
        return fitting[0]
    found = ", ".join(map(one_line, columns))
    if fitting:
        names = " or ".join(shape.name for shape in fitting)
        example = next(name for name in (*fitting[-1].needs, *fitting[-1].may) if name not in fitting[0].columns)
        raise InputError(
            f"{source.path} could be {names}: it has {found}; settle it by a column of one, such as "
            f"--map {example}={example}"
        )
    raise InputError(
        f"{source.path} has {found}: no columns that are known; name them, such as --map prompt=COLUMN "
        "--map response_a=COLUMN --map response_b=COLUMN"
    )


def _about(source: Source, shape: Shape, columns: Sequence[str], head: Sequence[dict[str, Any]]) -> str:
    if shape is not PREFERENCE:
        return ": ".join(filter(None, (shape.name, shape.sides)))
    if "prompt" not in columns and not isinstance(head[0].get("chosen"), list):
        _check_implicit(source, columns, head)
    return f"{preference_name(head[0])}: {shape.sides}"


def _check_implicit(source: Source, columns: Sequence[str], head: Sequence[dict[str, Any]]) -> None:
    """A common word at the start of two answers is no prompt."""
    like = next((name for name in columns if name in _LIKE_A_PROMPT), None)
    if like is not None:
        problem = f"and {like} may be the prompt; say --map prompt={like}"
    elif 2 * sum(_holds_prompt(row) for row in head) < len(head):
        problem = f"and they begin differently; say --map prompt=COLUMN (it has {', '.join(map(one_line, columns))})"
    else:
        return
    raise InputError(f"{source.path} has chosen and rejected but no prompt, {problem}")


def _holds_prompt(row: dict[str, Any]) -> bool:
    assert PREFERENCE.convert is not None
    try:
        PREFERENCE.convert(row)
    except BadRow:
        return False
    return True
