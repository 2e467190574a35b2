"""Which columns of an unknown layout may be the prompt and the responses: for messages, never a choice."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from difflib import get_close_matches

from preftree.labeling.terminal import one_line

# Columns that hold a prompt in files of other tools, the likeliest first.
LIKE_A_PROMPT = ("instruction", "question", "query", "input", "context", "problem", "messages", "conversation")

_FIRST_AND_SECOND = {"1": "2", "a": "b", "A": "B", "0": "1", "chosen": "rejected", "good": "bad", "better": "worse"}
_END = re.compile(r"(.*?)(1|a|A|0|chosen|good|better)", re.DOTALL)
_COLUMN = "COLUMN"
_NEAR = 0.7  # of `get_close_matches`: less is another word


def mapping_hint(fields: Sequence[str], columns: Collection[str]) -> str:
    """ "--map prompt=question --map response_a=COLUMN": for each field, the column that its name makes likely."""
    likely = _likely(columns)
    for name in fields:
        free = [column for column in columns if column not in likely.values()]
        likely.setdefault(name, next(iter(get_close_matches(name, free, 1, _NEAR)), _COLUMN))
    return " ".join(f"--map {shlex.quote(f'{name}={one_line(likely[name])}')}" for name in fields)


def _likely(columns: Collection[str]) -> dict[str, str]:
    """By field; fields of which nothing is known are not there."""
    prompt = next((name for name in LIKE_A_PROMPT if name in columns), None)
    found = {} if prompt is None else {"prompt": prompt}
    for column in columns:
        match = _END.fullmatch(column)
        second = match and match[1] + _FIRST_AND_SECOND[match[2]]
        if second and second in columns:
            return found | {"response_a": column, "response_b": second}
    return found
