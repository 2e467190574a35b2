"""The format "gptq" of AutoGPTQ and GPTQModel: 2, 3, 4 or 8 bits, zero points, and groups of columns in any order."""

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
from preftree.engine.weights.quantized.words import NUMBERS, WORDS, unpacked

G_IDX = ".g_idx"
# One in each number of a word; numbers of 3 bits run over from one word to the next.
_ONES = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}


def read_gptq(fields: Mapping[str, Any]) -> Format:
    """ModelError for settings that cannot be followed."""
    bits = fields.get("bits")
    if type(bits) is not int or bits not in NUMBERS:
        known = ", ".join(map(str, NUMBERS))
        raise ModelError(f"quantization_config: bits is {bits!r:.100}; of gptq, preftree reads {known}")
    check_settings(fields)
    layouts = {str(fields[name]).lower() for name in ("checkpoint_format", "format") if fields.get(name) is not None}
    check_names("checkpoint_format", layouts, ("gptq", "gptq_v2"))
    if len(layouts) > 1:
        raise ModelError("quantization_config: checkpoint_format and format contradict each other")
    scheme: Scheme = Gptq(
        bits,
        groups_of("group_size", fields.get("group_size", 128)),
        is_symmetric=_flag(fields, "sym", True),
        has_order=_flag(fields, "desc_act", False),
        zeros_less_one="gptq_v2" not in layouts,
    )
    return Format(lambda module: scheme)


def _flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    value = fields.get(name, default)
    if not isinstance(value, bool):
        raise ModelError(f"quantization_config: {name} is {value!r:.100}, which is neither true nor false")
    return value


@dataclass(frozen=True)
class Gptq:
    """(number - zero point) * scale.

    Stored are qweight int32 [columns * bits / 32, rows], qzeros int32 [groups, rows * bits / 32], scales
    [groups, rows] and g_idx [columns], each column's group; without, groups are of neighbouring columns.

    Attributes:
        is_symmetric: all zero points are half of 2**bits.
        has_order: columns were quantised in another order than they stand in, so that g_idx is needed.
        zeros_less_one: zero points are stored less one, as the first version of the format had it.
    """

    bits: int
    blocks: Blocks
    is_symmetric: bool = True
    has_order: bool = False
    zeros_less_one: bool = True

    @property
    def title(self) -> str:
        return f"GPTQ, {self.bits} bits {self.blocks.title}"

    @property
    def required(self) -> tuple[str, ...]:
        return (QWEIGHT, QZEROS, SCALES, G_IDX) if self.has_order else (QWEIGHT, QZEROS, SCALES)

    @property
    def optional(self) -> tuple[str, ...]:
        return (G_IDX,)

    def check(self, stored: Mapping[str, Stored], shape: tuple[int, ...]) -> None:
        groups = self.blocks.grid(shape)[1]
        rows, columns = shape
        numbers, words = NUMBERS[self.bits], WORDS[self.bits]
        for count, what in ((rows, "rows"), (columns, "columns")):
            if count % numbers:
                raise ModelError(f"its {count:,} {what} are no multiple of {numbers}, which {words} words hold")
        check_part(stored, QWEIGHT, (columns // numbers * words, rows))
        check_part(stored, QZEROS, (groups, rows // numbers * words))
        check_scales(stored, (groups, rows))
        if G_IDX in stored:
            check_part(stored, G_IDX, (columns,))

    def dequantized(
        self, parts: Mapping[str, torch.Tensor], shape: tuple[int, ...], first: int, last: int
    ) -> torch.Tensor:
        values = unpacked(parts[QWEIGHT][:, first:last].T, self.bits, torch.float32)
        zeros = self._zeros(parts[QZEROS], first, last).T.float()
        scales = parts[SCALES][:, first:last].T.float()
        groups = scales.shape[1]
        in_order = torch.arange(groups, device=scales.device).repeat_interleave(shape[1] // groups)
        order = parts.get(G_IDX, in_order)
        if torch.equal(order, in_order):
            return rescaled(values, zeros, scales)
        low, high = torch.aminmax(order)
        if low < 0 or high >= groups:
            raise ModelError(f"{G_IDX} names groups {low} to {high}, but there are 0 to {groups - 1}")
        return values.sub_(zeros[:, order]).mul_(scales[:, order])

    def _zeros(self, words: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """uint8 [groups, last - first].

        Some symmetric files hold the zero points themselves and yet name the first version (vllm#38966). One added to
        those would be no symmetric zero point, so they are known by their value.
        """
        numbers, count = NUMBERS[self.bits], WORDS[self.bits]
        begin = first // numbers
        words = words[:, begin * count : -(-last // numbers) * count]
        stored = zeros = unpacked(words, self.bits, torch.uint8)
        if self.zeros_less_one and self.bits == 3:
            zeros = (stored + 1) & 7
        elif self.zeros_less_one:
            # Writers take one from each number by a subtraction of whole words, which borrows where a number is 0.
            zeros = unpacked(words + _ONES[self.bits], self.bits, torch.uint8)
        if self.is_symmetric:
            half = 1 << (self.bits - 1)
            zeros = torch.where(stored == half, half, zeros)
        return zeros[:, first - begin * numbers : last - begin * numbers]
