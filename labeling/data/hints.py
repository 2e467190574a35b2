"""Which columns of an unknown layout may be the prompt and the responses: for messages, never a choice."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence

from preftree.labeling.terminal import one_line

# Columns that hold a prompt in files of other tools, the likeliest first.
LIKE_A_PROMPT = ("instruction", "question", "query", "input", "context", "problem", "messages", "conversation")

_FIRST_AND_SECOND = {"1": "2", "a": "b", "A": "B", "0": "1", "chosen": "rejected", "good": "bad", "better": "worse"}
_END = re.compile(r"(.*?)(1|a|A|0|chosen|good|better)", re.DOTALL)
_COLUMN = "COLUMN"


def mapping_hint(fields: Sequence[str], columns: Collection[str]) -> str:
    """ "--map prompt=question --map response_a=COLUMN": for each field, the column that its name makes likely."""
    likely = _likely(columns)
    return " ".join(f"--map {shlex.quote(f'{name}={one_line(likely.get(name, _COLUMN))}')}" for name in fields)


def _likely(columns: Collection[str]) -> dict[str, str]:
    found = {"prompt": next((name for name in LIKE_A_PROMPT if name in columns), _COLUMN)}
    for column in columns:
        match = _END.fullmatch(column)
        second = match and match[1] + _FIRST_AND_SECOND[match[2]]
        if second and second in columns:
            return found | {"response_a": column, "response_b": second}
    return found
