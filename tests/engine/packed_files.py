"""Matrices quantised and packed number by number, from the descriptions of the formats awq, gptq and mxfp4."""

from __future__ import annotations

import torch

from tests.engine.quantized_files import Quantised, Quantiser

# AutoAWQ: the row, out of eight neighbours, that a word's numbers belong to, from the lowest bits up.
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def to_words(numbers: list[int], bits: int) -> list[int]:
    """Signed words of 32 bits that hold the numbers one after the other, lowest bits first."""
    stream = sum(number << (bits * place) for place, number in enumerate(numbers))
    words = [stream >> (32 * place) & 0xFFFFFFFF for place in range(len(numbers) * bits // 32)]
    return [word - (1 << 32) if word >> 31 else word for word in words]


def from_words(words: list[int], bits: int) -> list[int]:
    stream = sum((word & 0xFFFFFFFF) << (32 * place) for place, word in enumerate(words))
    return [stream >> (bits * place) & ((1 << bits) - 1) for place in range(len(words) * 32 // bits)]


def in_groups(weight: torch.Tensor, group_of: list[int], bits: int, symmetric: bool) -> tuple[torch.Tensor, ...]:
    """Numbers [rows, columns], zero points and float16 scales [rows, groups] of groups of columns, and the values."""
    rows, groups, most = len(weight), max(group_of) + 1, (1 << bits) - 1
    numbers, zeros = torch.zeros(weight.shape, dtype=torch.int), torch.zeros(rows, groups, dtype=torch.int)
    scales, values = torch.zeros(rows, groups, dtype=torch.half), torch.zeros_like(weight)
    for group in range(groups):
        columns = [column for column, its in enumerate(group_of) if its == group]
        part = weight[:, columns]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if symmetric:
            high = torch.maximum(high, -low)
            low = -high
        scale = ((high - low) / most).half()
        half = torch.full_like(low, 1 << (bits - 1))
        zero = half if symmetric else (-low / scale).round().clamp(1, most)
        number = (part / scale.float()[:, None] + zero[:, None]).round().clamp(0, most)
        numbers[:, columns], zeros[:, group], scales[:, group] = number.int(), zero.int(), scale
        values[:, columns] = (number - zero[:, None]) * scale.float()[:, None]
    return numbers, zeros, scales, values


def by_gptq(bits: int, size: int, symmetric: bool = True, order: bool = False, less_one: bool = True) -> Quantiser:
    """order: groups are of columns far from each other. less_one: checkpoint_format is "gptq", not "gptq_v2"."""

    def one(module: str, weight: torch.Tensor) -> Quantised:
        columns = weight.shape[1]
        width = columns if size == -1 else size
        group_of = [column // width for column in range(columns)]
        if order:
            generator = torch.Generator().manual_seed(columns)
            group_of = [group_of[place] for place in torch.randperm(columns, generator=generator).tolist()]
        numbers, zeros, scales, values = in_groups(weight, group_of, bits, symmetric)
        stored = {
            ".qweight": torch.tensor([to_words(row, bits) for row in numbers.tolist()], dtype=torch.int32).T,
            ".qzeros": torch.tensor(
                [to_words(row, bits) for row in (zeros - int(less_one)).T.tolist()], dtype=torch.int32
            ),
            ".scales": scales.T,
            ".g_idx": torch.tensor(group_of, dtype=torch.int32),
        }
        return {suffix: part.contiguous() for suffix, part in stored.items()}, values

    return one


def by_awq(size: int, symmetric: bool = False) -> Quantiser:
    def packed(lines: list[list[int]]) -> torch.Tensor:
        inner = [[line[first + row] for first in range(0, len(line), 8) for row in AWQ_ORDER] for line in lines]
        return torch.tensor([to_words(line, 4) for line in inner], dtype=torch.int32)

    def one(module: str, weight: torch.Tensor) -> Quantised:
        columns = weight.shape[1]
        width = columns if size == -1 else size
        numbers, zeros, scales, values = in_groups(weight, [column // width for column in range(columns)], 4, symmetric)
        stored = {".qweight": packed(numbers.T.tolist()), ".qzeros": packed(zeros.T.tolist())}
        return stored | {".scales": scales.T.contiguous()}, values

    return one


def to_mxfp4(stack: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks and scales of [experts, rows, columns]; every number becomes the nearest there is."""
    groups = stack.unflatten(2, (-1, 32))
    exponents = (groups.abs().amax(3).clamp(min=1e-30) / 6).log2().ceil()
    scaled = groups / exponents.exp2().unsqueeze(3)
    codes = (scaled.abs().unsqueeze(4) - torch.tensor(E2M1)).abs().argmin(4) + 8 * (scaled < 0)
    blocks = codes[..., 0::2] + 16 * codes[..., 1::2]
    return blocks.to(torch.uint8), (exponents + 127).to(torch.uint8)
