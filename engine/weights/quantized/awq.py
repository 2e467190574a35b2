"""The format "awq" in AutoAWQ's layout "gemm": 4 bits, zero points, columns of the matrix as stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from preftree.engine.errors import ModelError
from preftree.engine.weights.quantized.blocks import Blocks
from preftree.engine.weights.quantized.qweight import (
    QWEIGHT,
    QZEROS,
    SCALES,
    check_names,
    check_part,
    check_scales,
    check_settings,
    groups_of,
    rescaled,
)
from preftree.engine.weights.quantized.scheme import Format, Scheme, Stored

# Which of the eight rows of a word its numbers belong to, from the lowest bits up.
_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def read_awq(fields: Mapping[str, Any]) -> Format:
    """ModelError for settings that cannot be followed.

    What `zero_point` says changes nothing here: without, GPTQModel stores the zero point 8 everywhere.
    """
    check_settings(fields)
    bits = fields.get("bits", fields.get("w_bit", 4))
    if type(bits) is not int or bits != 4:
        raise ModelError(f"quantization_config: bits is {bits!r:.100}; of awq, preftree reads 4")
    layouts = {str(fields[field]).lower() for field in ("version", "format") if fields.get(field) is not None}
    if fields.get("backend") == "llm-awq":
        layouts = {"llm-awq"}
    check_names("version", layouts, ("gemm",))
    name = "q_group_size" if "q_group_size" in fields else "group_size"
    scheme: Scheme = Awq(groups_of(name, fields.get(name, 128)))
    return Format(lambda module: scheme)


@dataclass(frozen=True)
class Awq:
    """(number - zero point) * scale.

    Stored are qweight int32 [columns, rows / 8], qzeros int32 [groups, rows / 8] and scales [groups, rows].
    """

    blocks: Blocks

    @property
    def title(self) -> str:
        return f"AWQ, 4 bits {self.blocks.title}"

    @property
    def required(self) -> tuple[str, ...]:
        return (QWEIGHT, QZEROS, SCALES)

    @property
    def optional(self) -> tuple[str, ...]:
        return ()

    def check(self, stored: Mapping[str, Stored], shape: tuple[int, ...]) -> None:
        groups = self.blocks.grid(shape)[1]
        rows, columns = shape
        if rows % 8:
            raise ModelError(f"its {rows:,} rows are no multiple of 8, which a word of {QWEIGHT} holds")
        check_part(stored, QWEIGHT, (columns, rows // 8))
        check_part(stored, QZEROS, (groups, rows // 8))
        check_scales(stored, (groups, rows))

    def dequantized(
        self, parts: Mapping[str, torch.Tensor], shape: tuple[int, ...], first: int, last: int
    ) -> torch.Tensor:
        values, zeros = (_of_rows(parts[suffix], first, last) for suffix in (QWEIGHT, QZEROS))
        return rescaled(values, zeros, parts[SCALES][:, first:last].T.float())


def _of_rows(words: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """float32 [last - first, columns or groups] from int32 [columns or groups, rows / 8]."""
    begin = first // 8
    picked = words[:, begin : -(-last // 8)].T.contiguous()
    numbers = torch.empty(len(picked), 8, picked.shape[1], device=words.device)
    for index, row in enumerate(_ORDER):
        numbers[:, row] = (picked >> 4 * index) & 15
    return numbers.flatten(0, 1)[first - 8 * begin : last - 8 * begin]
