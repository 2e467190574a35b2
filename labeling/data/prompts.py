"""An input of which the prompts alone are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.alpaca import ALPACA_PROMPTS, INSTRUCTION, joined_note
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.layout import Layout, first_rows, recognise
from preftree.labeling.data.row import OWN_FIELDS, PROMPT_FIELDS, BadRow
from preftree.labeling.data.shapes import OWN, Row, Shape
from preftree.labeling.terminal import one_line


class Prompts(Dataset):
    """Rows need no responses. Those that they have are left out, and gold with them: it is of these responses."""

    def _recognised(self) -> Layout:
        try:
            layout = recognise(self.source, self._mapping)
        except UsageError:
            raise
        except InputError:
            rows = [self._mapping.applied(row) for row in first_rows(self.source)]
            if not rows:
                raise
            columns = dict.fromkeys(name for row in rows for name in row)
            if "prompt" not in columns and INSTRUCTION in columns:
                about = ": ".join(filter(None, (ALPACA_PROMPTS.name, joined_note(ALPACA_PROMPTS, columns))))
                return Layout(ALPACA_PROMPTS, self._mapping, about)
            if "prompt" not in columns:
                names = ", ".join(map(one_line, columns))
                raise InputError(f"{self.name} has {names}: no prompt; name it, --map prompt=COLUMN") from None
            return Layout(_PROMPTS, self._mapping, "prompts")
        return replace(layout, shape=_prompts_of(layout.shape))


def _prompts_of(shape: Shape) -> Shape:
    """A shape with responses, without them."""
    if shape is OWN:
        return _PROMPTS
    convert = shape.convert
    assert convert is not None
    return replace(shape, fields=PROMPT_FIELDS, convert=_only_prompt(convert), gold=None, responses=None, split=None)


def _only_prompt(convert: Callable[[Row], dict[str, Any]]) -> Callable[[Row], dict[str, Any]]:
    def only_prompt(row: Row) -> dict[str, Any]:
        fields = convert(row)
        return {name: fields[name] for name in fields if name == "prompt" or name not in OWN_FIELDS}

    return only_prompt


def _prompt(row: Row) -> dict[str, Any]:
    if "prompt" not in row:
        raise BadRow("missing column: prompt")
    return {"prompt": row["prompt"]}


_PROMPTS = Shape(
    "prompts",
    ("prompt",),
    may=tuple(name for name in OWN_FIELDS if name not in PROMPT_FIELDS),
    fields=PROMPT_FIELDS,
    convert=_prompt,
)
