"""Prompts and completions as trainers hand them over: strings, or messages of a chat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from preftree.labeling.data.row import SINGLE_FIELDS, to_item
from preftree.labeling.types import Rejected, Response

_NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})


def response_of(
    prompt: Any, completion: Any, identity: Any = None, columns: Mapping[str, Any] = _NO_COLUMNS
) -> Response | Rejected:
    """A completion as a response to be scored, or why it cannot be.

    Args:
        prompt: a string or messages.
        completion: the same.
        identity: of its prompt; by default its hash.
        columns: of its row that it is judged by.
    """
    turns = [_plain(turn) for turn in prompt] if _is_list(prompt) else prompt
    row = {"prompt": turns, "response": _text(completion), "id": prompt_id(turns) if identity is None else identity}
    item = to_item({**columns, **row}, 0, SINGLE_FIELDS)
    assert isinstance(item, Response | Rejected)
    return item


def prompt_id(prompt: Any) -> str:
    """The same for every completion of a prompt, in every epoch and process."""
    return hashlib.blake2b(json.dumps(prompt, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def _text(completion: Any) -> Any:
    """Of the last message, which is the answer where tools were called before; a string is one already."""
    if _is_list(completion) and completion:
        return _content(completion[-1])
    return completion


def _plain(turn: Any) -> Any:
    """A message without what a trainer keeps beside role and content."""
    return {"role": turn.get("role"), "content": _content(turn)} if isinstance(turn, Mapping) else turn


def _content(turn: Any) -> Any:
    """Its text, which may be in blocks."""
    content: Any = turn.get("content") if isinstance(turn, Mapping) else turn
    if _is_list(content) and all(isinstance(block, Mapping) and block.get("type") == "text" for block in content):
        return "".join(str(block.get("text", "")) for block in content)
    return content


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
