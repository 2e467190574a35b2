"""How the columns of an input become samples: recognised once for the file, by its first rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.alpaca import ALPACA, INPUT, INSTRUCTION, joined_note
from preftree.labeling.data.benchmarks import BENCHMARKS
from preftree.labeling.data.hints import LIKE_A_PROMPT, mapping_hint
from preftree.labeling.data.row import OWN_FIELDS, BadRow, fields_of, identity_of, is_blank, is_odd_gold, to_item
from preftree.labeling.data.shapes import OTHERS, OWN, PREFERENCE, Shape, preference_name
from preftree.labeling.data.source import Source
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected, Sample
from preftree.labeling.values import known_names, suggestion

_ROWS_LOOKED_AT = 100
_FEW = 10  # of so many rows, one is few
_PAIR = ("prompt", "response_a", "response_b")
_RESPONSES = ("response", "responses")
_KNOWN = (*OTHERS, *ALPACA, *BENCHMARKS)
FIELDS = tuple(dict.fromkeys(name for shape in (OWN, *_KNOWN) for name in shape.columns))


@dataclass(frozen=True)
class ColumnMapping:
    """`--map FIELD=COLUMN`: which column to take for a field, whatever columns are called.

    columns: of each field, the column to take. A name with dots that no column has leads into nested values:
    `info.post`, `summaries.0.text`.
    """

    columns: Mapping[str, str] = field(default_factory=dict)

    def applied(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with its columns renamed to fields. One that had a field's name gets "input_" in front of it."""
        if not self.columns:
            return row if isinstance(row, dict) else dict(row)
        taken = {column: name for name, column in self.columns.items()}
        renamed = {}
        for column, value in row.items():
            if column in taken:
                renamed[taken[column]] = value
            else:
                renamed[f"input_{column}" if column in self.columns else column] = value
        for name, path in self.columns.items():
            if path not in row and (found := _inside(row, path)) is not _NOTHING:
                renamed[name] = found
        return renamed

    def example(self, columns: Iterable[str]) -> dict[str, Any]:
        """A row with these columns, and with whatever the paths of the mapping lead to inside of them."""
        row: dict[str, Any] = {name: {} for name in columns}
        for path in self.columns.values():
            first, *inner = path.split(".")
            if path not in row and first in row:
                fields = row[first]
                for step in inner:
                    fields = fields.setdefault(step, {})
        return row

    def check(self, rows: Collection[Mapping[str, Any]], where: str) -> None:
        """UsageError for a column that none of these rows has."""
        for name, column in self.columns.items():
            if not any(column in row or _inside(row, column) is not _NOTHING for row in rows):
                names = one_line(known_names(column, dict.fromkeys(key for row in rows for key in row)))
                raise UsageError(f"{where} has no column {one_line(column)} to --map to {name}; it has {names}")


class Look(NamedTuple):
    """What a row looks like. id: None for a bad one. fields: of the sample that it seems to be. responses: its list of
    them, if it has one. extra: the columns that pass through. odd_gold: one that cannot be read.
    """

    id: str | None
    fields: tuple[str, ...]
    has_gold: bool
    responses: Any
    extra: dict[str, Any]
    odd_gold: Any = None


@dataclass(frozen=True)
class Layout:
    """How the rows of an input become samples.

    Attributes:
        shape: the set of columns that they have.
        mapping: applied to each row first.
        about: what was recognised, for people.
        warning: what may have been meant otherwise, for people; None where there is no such thing.
    """

    shape: Shape
    mapping: ColumnMapping
    about: str
    warning: str | None = None

    def rows(self, source: Source) -> Generator[tuple[int, dict[str, Any] | BadRow], None, None]:
        """The rows of a source with their columns mapped, one for each sample, or why one cannot be read."""
        split = self.shape.split
        with closing(source.rows()) as rows:
            for line, row in rows:
                if isinstance(row, BadRow):
                    yield line, row
                    continue
                mapped = self.mapping.applied(row)
                for part in (mapped,) if split is None else split(mapped, line):
                    yield line, part

    def item_of(self, row: dict[str, Any] | BadRow, line: int) -> Sample | Rejected:
        """The sample in one of `rows`, a bad one as Rejected with its line and reason."""
        return Rejected(line, str(row)) if isinstance(row, BadRow) else self.item(row, line)

    def item(self, row: dict[str, Any], line: int) -> Sample | Rejected:
        """The sample in one of `rows`, or the first thing that is wrong with it."""
        if self.shape.convert is None:
            return to_item(row, line)
        extra = self._others(row)
        own = {"id": row.get(self.shape.id)}
        try:
            fields = self.shape.convert(row)
        except BadRow as error:
            return Rejected(line, str(error), identity_of(own, line), MappingProxyType(extra))
        return to_item({**own, **fields, **extra}, line, self.shape.fields)

    def fits(self, rows: Iterable[Mapping[str, Any]]) -> bool:
        """Whether one of these rows has the columns that the shape needs."""
        some = () if self.shape is not OWN else (*_PAIR[1:], *_RESPONSES)
        mapped = [self.mapping.applied(row) for row in rows]
        return any(
            row.keys() >= {*self.shape.needs} and (not some or not row.keys().isdisjoint(some)) for row in mapped
        )

    def look(self, row: dict[str, Any], line: int) -> Look:
        """Of one of `rows`. Checks nothing but the id."""
        identity = identity_of({"id": row.get(self.shape.id)}, line)
        gold = row.get(self.shape.raw_gold or "")
        odd = gold if is_odd_gold(gold) else None
        if self.shape.fields is not None:
            responses = row.get(self.shape.responses or "")
            return Look(identity, self.shape.fields, self.shape.gold in row, responses, self._others(row), odd)
        own = fields_of(row)
        extra = {name: value for name, value in row.items() if name not in own}
        return Look(
            identity,
            own,
            "gold" in own and "gold" in row,
            row["responses"] if "responses" in own else None,
            extra,
            odd if "gold" in own else None,
        )

    def _others(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What passes through; a name that a sample needs for itself gets "input_" in front."""
        read = {*self.shape.columns} - {*self.shape.keeps}
        return {
            f"input_{name}" if name in OWN_FIELDS else name: value for name, value in row.items() if name not in read
        }


def recognise(source: Source, mapping: ColumnMapping) -> Layout:
    """From the first good rows of a source. InputError for columns that are unknown, or could be two things."""
    head = first_rows(source)
    if not head:
        return Layout(OWN, mapping, "no row that can be read")
    unread = source.left_out()
    mapping.check([*head, unread], source.name)
    head = [mapping.applied(row) for row in head]
    lost = mapping.applied(dict(zip(unread, unread, strict=True)))
    columns = list(dict.fromkeys(name for row in (*head, lost) for name in row))
    shape = _shape(source, columns, [*head, lost], mapping)
    _check_read(source, shape, lost, unread)
    mine = [row for row in head if row.keys() >= {*shape.needs}] or head
    return Layout(shape, mapping, _about(source, shape, mine), _warning(shape, mapping, mine))


def recognise_names(source: Source, columns: Sequence[str], mapping: ColumnMapping) -> Layout:
    """From the names of columns, so that rows with the same columns are read alike whatever they hold.

    Of rows, only those whose columns may hold their prompt or not are looked at. Raises what `recognise` does.
    """
    unread = source.left_out()
    example = mapping.example(columns)
    mapping.check([example], source.name)
    renamed = mapping.applied(example)
    shape = _shape(source, list(renamed), [renamed], mapping)
    _check_read(source, shape, mapping.applied({name: name for name in unread}), unread)
    if shape is PREFERENCE and "prompt" not in renamed:
        head = [mapping.applied(row) for row in first_rows(source)]
        if any(isinstance(row.get("chosen"), str) for row in head):
            _check_beside(source, list(renamed))
    return Layout(shape, mapping, shape.name)


def _check_read(source: Source, shape: Shape, lost: Mapping[str, str], unread: Mapping[str, str]) -> None:
    """InputError where a column that the shape needs has a type that cannot be read. lost: its name by field."""
    if needed := next((lost[name] for name in shape.columns if name in lost), None):
        raise InputError(
            f"{source.name}: column {one_line(needed)} has the type {unread[needed]}, which cannot be read; save it as "
            "text"
        )


def first_rows(source: Source) -> list[dict[str, Any]]:
    """Those that can be read, up to a hundred."""
    with closing(source.rows()) as rows:
        return list(islice((row for _, row in rows if isinstance(row, dict)), _ROWS_LOOKED_AT))


def no_rows(name: str) -> InputError:
    return InputError(f"{name} holds no rows; each must have a prompt and its responses")


def _shape(
    source: Source, columns: Collection[str], rows: Sequence[Mapping[str, Any]], mapping: ColumnMapping
) -> Shape:
    if not columns:
        raise no_rows(source.name)
    present = set(columns)
    fitting = _frequent(rows, mapping) or _fitting(present, mapping, rows[0])
    if len(fitting) == 1:
        return fitting[0]
    found = ", ".join(map(one_line, columns))
    if fitting:
        names = " or ".join(shape.name for shape in fitting)
        example = next(name for name in (*fitting[-1].needs, *fitting[-1].may) if name not in fitting[0].columns)
        raise InputError(
            f"{source.name} could be {names}: it has {found}; settle it by a column of one, such as "
            f"--map {example}={example}"
        )
    kinds = (_PAIR, *(("prompt", name) for name in _RESPONSES))
    wanted = max(kinds, key=lambda names: len(present.intersection(names)))
    ways = mapping_hint([name for name in wanted if name not in present], columns)
    raise InputError(f"{source.name} has {found}: no columns that are known; name them, such as {ways}")


def _fitting(present: Collection[str], mapping: ColumnMapping, row: Mapping[str, Any]) -> list[Shape]:
    """What rows with these columns may be. row: one of them."""
    present, fields = set(present), mapping.columns.keys()
    found = [
        shape for shape in _KNOWN if present.issuperset(shape.needs) and (shape.is_one is None or shape.is_one(row))
    ]
    found = [shape for shape in found if not any(other.narrows is shape for other in found)]
    if "prompt" in present and present.intersection(_RESPONSES):
        found.insert(0, OWN)
    if present.issuperset(_PAIR):
        found = [OWN]
    return [shape for shape in found if fields <= set(shape.columns)]


def _frequent(rows: Sequence[Mapping[str, Any]], mapping: ColumnMapping) -> list[Shape]:
    """What rows may be one by one, without what few of them may be: an odd row settles nothing for the others."""
    votes = [(shape.name, shape) for row in rows for shape in _fitting(row.keys(), mapping, row)]
    counts = Counter(name for name, _ in votes)
    few = max(1, len(rows) // _FEW)
    return [shape for name, shape in dict(votes).items() if counts[name] > few]


def _about(source: Source, shape: Shape, head: Sequence[dict[str, Any]]) -> str:
    """head: rows that have the columns of this shape, if any has."""
    columns = list(dict.fromkeys(name for row in head for name in row))
    if shape is not PREFERENCE:
        parts = "; ".join(filter(None, (shape.sides, joined_note(shape, columns))))
        return ": ".join(filter(None, (shape.name, parts)))
    if 2 * sum(_holds_texts(row) for row in head) > len(head):
        raise InputError(
            f"{source.name} has chosen as a list of strings: RewardBench 2 has num_correct and total_completions "
            "beside it, RM-Bench three strings in each of chosen and rejected; give it one string or a list of messages"
        )
    if "prompt" not in columns and 2 * sum(isinstance(row.get("chosen"), list) for row in head) <= len(head):
        _check_implicit(source, columns, head)
    [(name, _)] = Counter(map(preference_name, head)).most_common(1)
    return f"{name}: {shape.sides}"


def _warning(shape: Shape, mapping: ColumnMapping, rows: Sequence[dict[str, Any]]) -> str | None:
    """Of an instruction that is the whole prompt because --map says so, where one of these rows has an input."""
    is_alone = mapping.columns.get("prompt") == INSTRUCTION and INPUT not in (*shape.columns, *mapping.columns.values())
    if not is_alone or all(is_blank(row.get(INPUT)) for row in rows):
        return None
    return (
        f"the prompt is column {INSTRUCTION} alone, as --map says, without column {INPUT}; to join them, leave out "
        f"--map prompt={INSTRUCTION}, and name responses output_1 and output_2 (a single one: output)"
    )


def _check_implicit(source: Source, columns: Sequence[str], head: Sequence[dict[str, Any]]) -> None:
    """A common word at the start of two answers is no prompt."""
    _check_beside(source, columns)
    if 2 * sum(_holds_prompt(row) for row in head) < len(head):
        problem = f"and they begin differently; say --map prompt=COLUMN (it has {', '.join(map(one_line, columns))})"
        raise InputError(f"{source.name} has chosen and rejected but no prompt, {problem}")


def _check_beside(source: Source, columns: Sequence[str]) -> None:
    """InputError where a column beside chosen and rejected may be their prompt."""
    like = next((name for name in columns if name in LIKE_A_PROMPT), None)
    if like is not None:
        problem = f"and {like} may be the prompt; say --map prompt={like}"
        raise InputError(f"{source.name} has chosen and rejected but no prompt, {problem}")


def _holds_texts(row: dict[str, Any]) -> bool:
    chosen = row.get("chosen")
    return isinstance(chosen, list) and bool(chosen) and all(isinstance(text, str) for text in chosen)


def _holds_prompt(row: dict[str, Any]) -> bool:
    assert PREFERENCE.convert is not None
    try:
        PREFERENCE.convert(row)
    except BadRow:
        return False
    return True


def column_mapping(texts: Sequence[str]) -> ColumnMapping:
    """From "FIELD=COLUMN" texts. Raises UsageError."""
    columns: dict[str, str] = {}
    for text in texts:
        name, equals, column = text.partition("=")
        if not (equals and name and column):
            raise UsageError(f"--map {one_line(text)} is not FIELD=COLUMN, such as response_a=output")
        if name not in FIELDS:
            raise UsageError(f"--map {one_line(text)}: {one_line(name)} is no field; {suggestion(name, FIELDS)}")
        if name in columns:
            raise UsageError(
                f"--map gives {name} two columns, {one_line(columns[name])} and {one_line(column)}; keep one"
            )
        if column in columns.values():
            raise UsageError(f"--map takes column {one_line(column)} twice; a column is one field")
        columns[name] = column
    return ColumnMapping(columns)


_NOTHING = object()


def _inside(row: Mapping[str, Any], path: str) -> Any:
    """What the steps of a dotted path lead to, through objects by name and through lists by index."""
    found: Any = row
    for step in path.split("."):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isascii() and step.isdigit() and int(step[:9]) < len(found):
            found = found[int(step[:9])]
        else:
            return _NOTHING
    return found
