"""Numbers of a few bits out of words of 32."""

from __future__ import annotations

import torch

# A word, or the three over which 32 numbers of 3 bits run on: what holds whole numbers only.
NUMBERS = {2: 16, 3: 32, 4: 8, 8: 4}
WORDS = {2: 1, 3: 3, 4: 1, 8: 1}


def unpacked(words: torch.Tensor, bits: int, dtype: torch.dtype) -> torch.Tensor:
    """[rows, numbers] from int32 [rows, words]. The first number is in the lowest bits."""
    rows, count = words.shape
    numbers = torch.empty(rows, count // WORDS[bits] * NUMBERS[bits], dtype=dtype, device=words.device)
    mask = (1 << bits) - 1
    if bits == 3:
        # The numbers before bit 63 from the lower two words, all others from the upper two.
        first, second, third = words.long().unflatten(1, (-1, 3)).unbind(2)
        pairs = (first & 0xFFFFFFFF) | (second << 32), (second & 0xFFFFFFFF) | (third << 32)
        for index in range(32):
            shift = 3 * index if index < 21 else 3 * index - 32
            numbers[:, index::32] = (pairs[index >= 21] >> shift) & mask
        return numbers
    # A copy in any case: what is called contiguous may have a column of one word with any stride.
    octets = words.clone(memory_format=torch.contiguous_format).view(torch.uint8)
    for index, shift in enumerate(range(0, 8, bits)):
        numbers[:, index :: 8 // bits] = (octets >> shift) & mask
    return numbers
