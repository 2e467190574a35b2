"""One row of input: bytes -> JSON object -> `Pair`, or the reason why not.

Reasons read "kind: detail", so that a summary can count them by kind. Every piece of the file that appears in
one is quoted as ASCII JSON and cut short: a reason is one line whatever the file holds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from preftree.labeling.types import Message, Pair, Prompt, Rejected, Response, ResponseSet, Sample, Verdict

PAIR_FIELDS = ("id", "prompt", "response_a", "response_b", "gold")
SINGLE_FIELDS = ("id", "prompt", "response")
SEVERAL_FIELDS = ("id", "prompt", "responses")
PROMPT_FIELDS = ("id", "prompt")
FIELDS: dict[type[Sample], tuple[str, ...]] = {
    Pair: PAIR_FIELDS,
    Response: SINGLE_FIELDS,
    ResponseSet: SEVERAL_FIELDS,
    Prompt: PROMPT_FIELDS,
}
OWN_FIELDS = ("id", "prompt", "response_a", "response_b", "response", "responses", "gold")
_NAMES = {fields: frozenset(fields) for fields in FIELDS.values()}
_NEEDED = {fields: names - {"id", "gold"} for fields, names in _NAMES.items()}
ROLES = ("system", "user", "assistant")
MAX_DEPTH = 100
MAX_LINE_BYTES = 16 * 1024 * 1024
TOO_LONG = f"line too long: over {MAX_LINE_BYTES // 1024**2} MB"

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_GOLD: dict[Any, Verdict | None] = {
    None: None,
    "": None,
    **dict.fromkeys(("tie", "both", "tie (bothbad)", "tie (both bad)", "both_bad", "bothbad"), "tie"),
    **dict.fromkeys(("a", "model_a", "0", 0), "a"),
    **dict.fromkeys(("b", "model_b", "1", 1), "b"),
}
_JSON_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


class BadRow(ValueError):
    """Why a row gets no label."""


def parse(line: bytes | None) -> dict[str, Any]:
    """The JSON object on a line. Raises BadRow; None stands for a line that was too long to read."""
    if line is None:
        raise BadRow(TOO_LONG)
    may_be_deep = line.count(b"{") + line.count(b"[") > MAX_DEPTH  # hardly ever; walking the row costs more
    return _checked(_decoded(line), _SURROGATE_ESCAPE.search(line) is not None, may_be_deep)


def parse_array(text: bytes) -> Iterator[dict[str, Any] | BadRow]:
    """The objects of a JSON array, or why one is none. Raises BadRow where the array itself is broken."""
    has_surrogates = _SURROGATE_ESCAPE.search(text) is not None
    for value in _decoded(text):
        try:
            row: dict[str, Any] | BadRow = _checked(value, has_surrogates, may_be_deep=True)
        except BadRow as error:
            row = error
        yield row


def fields_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns that make this row a sample: those of a pair wherever one of its responses is there."""
    if "response_a" not in row and "response_b" not in row:
        if "responses" in row:
            return SEVERAL_FIELDS
        if "response" in row:
            return SINGLE_FIELDS
    return PAIR_FIELDS


def to_item(row: dict[str, Any], line: int, fields: tuple[str, ...] | None = None) -> Sample | Rejected:
    """The sample in a row, or the first thing that is wrong with it. fields: of it; None where its columns say."""
    own = fields or fields_of(row)
    names = _NAMES[own]
    extra = MappingProxyType({key: value for key, value in row.items() if key not in names})
    identity = None
    gold = None
    try:
        gold = None if "gold" not in own or is_odd_gold(row.get("gold")) else gold_of(row)
        identity = _identity(row, line)
        if not _NEEDED[own] <= row.keys():
            missing = [name for name in own if name in _NEEDED[own] - row.keys()]
            raise BadRow(f"missing column: {', '.join(missing)}")
        prompt = _prompt(row["prompt"])
        if own is PROMPT_FIELDS:
            return Prompt(identity, prompt, extra, line)
        if own is SINGLE_FIELDS:
            return Response(identity, prompt, _text(row, "response"), extra, line)
        if own is SEVERAL_FIELDS:
            return ResponseSet(identity, prompt, _responses(row["responses"]), extra, line)
        response_a, response_b = _text(row, "response_a"), _text(row, "response_b")
        return Pair(identity, prompt, response_a, response_b, gold, extra, line)
    except BadRow as error:
        return Rejected(line, str(error), identity, extra, gold)


def rejected(sample: Sample, reason: str) -> Rejected:
    """The row of a sample that could be read but not labelled."""
    return Rejected(sample.line, reason, sample.id, sample.extra, getattr(sample, "gold", None))


def identity_of(row: Mapping[str, Any], line: int) -> str | None:
    """The id of a row that is bad for another reason; None where that is bad, too."""
    try:
        return _identity(row, line)
    except BadRow:
        return None


def rivals(columns: Collection[str]) -> frozenset[str]:
    """Of a table's columns, those that some rows only can fill, because it has responses of several kinds."""
    kinds = ({"response_a", "response_b"}, {"response"}, {"responses"})
    present = [kind.intersection(columns) for kind in kinds]
    return frozenset({"gold"}.union(*present)) if sum(map(bool, present)) > 1 else frozenset()


def quoted(value: Any) -> str:
    """A value of the file, safe to print and at most 40 characters long."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _identity(row: Mapping[str, Any], line: int) -> str:
    value = row.get("id")
    if value is None:
        return f"line-{line}"
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRow(f"wrong type: id must be a string or an integer, found {name_of(value)}")
    identity = str(value)
    if not identity.strip():
        raise BadRow("blank text: id")
    return identity


def gold_of(row: Mapping[str, Any]) -> Verdict | None:
    """Also as model_a or model_b, in capitals, as the index of the better response, and ties as those of Arena.

    BadRow for anything else.
    """
    value = row.get("gold")
    if is_odd_gold(value):
        raise BadRow(f'bad gold: must be "a", "b", "tie" or null (0 is a, 1 is b), found {quoted(value)}')
    return _GOLD[_plain_gold(value)]


def is_odd_gold(value: Any) -> bool:
    """Whether a gold cannot be read. It costs the gold and not the row: the judge needs none."""
    known = _plain_gold(value)
    return isinstance(known, bool | list | dict) or known not in _GOLD


def is_number(gold: Any) -> bool:
    """Whether a gold is one, as a string or not."""
    if isinstance(gold, str):
        return gold.strip().lstrip("-").isdecimal()
    return isinstance(gold, int | float) and not isinstance(gold, bool)


def _plain_gold(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _text(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise BadRow(f"wrong type: {name} must be a string, found {name_of(value)}")
    if not value.strip():
        raise BadRow(f"blank text: {name}")
    return value


def _responses(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadRow(f"wrong type: responses must be a list of strings, found {name_of(value)}")
    if len(value) < 2:
        raise BadRow(f"too few responses: ranking needs two or more, found {len(value)}")
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, str):
            raise BadRow(f"wrong type: response {number} must be a string, found {name_of(entry)}")
        if not entry.strip():
            raise BadRow(f"blank text: response {number}")
    return tuple(value)


def _prompt(value: Any) -> tuple[Message, ...]:
    """A string is one user message; a list is a conversation that waits for its next answer."""
    if isinstance(value, str):
        if not value.strip():
            raise BadRow("blank text: prompt")
        return (Message("user", value),)
    if not isinstance(value, list):
        raise BadRow(f"wrong type: prompt must be a string or a list of messages, found {name_of(value)}")
    if not value:
        raise BadRow("bad prompt: the list of messages is empty")
    messages = tuple(_message(entry, number) for number, entry in enumerate(value, start=1))
    if messages[-1].role != "user":
        raise BadRow(f"bad prompt: the last message must come from the user, not from the {messages[-1].role}")
    return messages


def prompt_value(prompt: Sequence[Message]) -> str | list[dict[str, str]]:
    """A prompt as a row holds it: a single user message is its text."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return [message._asdict() for message in prompt]


def _message(entry: Any, number: int) -> Message:
    where = f"prompt message {number}"
    if not isinstance(entry, dict):
        raise BadRow(f"wrong type: {where} must be an object, found {name_of(entry)}")
    role, content = entry.get("role"), entry.get("content")
    if role not in ROLES:
        raise BadRow(f"bad prompt: role of message {number} must be one of {', '.join(ROLES)}, found {quoted(role)}")
    if not isinstance(content, str):
        raise BadRow(f"wrong type: content of {where} must be a string, found {name_of(content)}")
    if not content.strip():
        raise BadRow(f"blank text: {where}")
    return Message(role, content)


def is_blank(value: Any) -> bool:
    """Whether there is no value, or a string of nothing but white space."""
    return value is None or (isinstance(value, str) and not value.strip())


def name_of(value: Any) -> str:
    """ "a string", "null", ...: what JSON calls a value."""
    return _JSON_NAMES.get(type(value), "a number")


def _decoded(text: bytes) -> Any:
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadRow(f"invalid UTF-8: byte 0x{text[error.start]:02x} at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        problem = error.msg.removesuffix(" at").rstrip(": ")
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise BadRow(f"broken JSON: {problem} at {line}column {error.colno}") from None
    except RecursionError:
        raise BadRow(_TOO_DEEP) from None
    except BadRow:
        raise
    except ValueError as error:  # an integer of more digits than Python agrees to read
        raise BadRow(f"broken JSON: {error}") from None


def _checked(row: Any, has_surrogates: bool, may_be_deep: bool) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BadRow(f"not an object: {name_of(row)}")
    if may_be_deep and _is_deeper(row, MAX_DEPTH):
        raise BadRow(_TOO_DEEP)
    if has_surrogates:
        _refuse_lone_surrogates(row)
    return row


def _is_deeper(value: Any, limit: int) -> bool:
    """Level by level: recursion would meet the interpreter's limit at a depth that depends on the caller."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return True


def _refuse_lone_surrogates(row: dict[str, Any]) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"U+{ord(error.object[error.start]):04X}"
        raise BadRow(f"lone surrogate: {found} is half of a character") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python keeps the last of two equal keys in silence; which one was meant is not ours to guess."""
    row = dict(pairs)
    if len(row) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadRow(f"duplicate key: {quoted(repeated)}")
    return row


def _number(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


_TOO_DEEP = f"nested too deeply: over {MAX_DEPTH} levels"

# NaN, Infinity and 1e999 are no JSON or no float64; Python writes NaN for "missing", so they become null.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=lambda _: None, parse_float=_number)
