"""What has changed between two records, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from preftree.labeling.terminal import one_line

_LONGEST = 48


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values that are no objects. A text with its hash beside it is told by the hash.

    name: of all of it; "" for none.
    """
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        if not (key == "source" and "sha256" in value):
            yield from flat(inner, f"{name}.{key}" if name else key)


def change(name: str, old: Any, new: Any) -> str:
    """ "options.seed was 1 and is 2 now"."""
    return f"{name} was {_brief(old)} and is {_brief(new)} now"


def _brief(value: Any) -> str:
    text = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST else f"{text[:12]}..."
