"""Attention whose keys and values are expanded from one short vector of a token, the latent. NumPy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.errors import ModelError


@dataclass(frozen=True)
class Latent:
    """Sizes of multi-head latent attention (DeepSeek-AI, 2024, DeepSeek-V2); its defaults are DeepSeek-V3's.

    A head's key is expanded from the latent but for its rotating dimensions, which all heads share. Attention reads
    keys and values as of any other model: expanded, per head, and padded with zeros to the same size.

    q_rank: length of the vector that queries are expanded from; None: they come from the hidden state. kv_rank: length
    of the latent. still, rotated: dimensions of a key that do not rotate, and those that do. value: of a value.
    """

    q_rank: int | None = 1536
    kv_rank: int = 512
    still: int = 128
    rotated: int = 64
    value: int = 128

    def validate(self) -> None:
        for field, size in self.fields.items():
            if field != "q_lora_rank" or size is not None:
                check_whole(field, size, LIMITS["hidden_size" if field.endswith("rank") else "head_dim"])
        if self.rotated % 2:
            raise ModelError(f"qk_rope_head_dim is {self.rotated}; rotary embedding needs an even one")

    @property
    def fields(self) -> dict[str, Any]:
        """By the names of config.json."""
        return {
            "q_lora_rank": self.q_rank,
            "kv_lora_rank": self.kv_rank,
            "qk_nope_head_dim": self.still,
            "qk_rope_head_dim": self.rotated,
            "v_head_dim": self.value,
        }

    @property
    def key_size(self) -> int:
        """Dimensions of a key before padding."""
        return self.still + self.rotated

    @property
    def head_size(self) -> int:
        """Dimensions of a head as attention reads it: a power of two, which all kernels take."""
        return 1 << (max(self.key_size, self.value) - 1).bit_length()

    def turning(self, interleaved: bool) -> np.ndarray:
        """The rotating dimensions in the order in which they turn in pairs (i, i + rotated / 2), [rotated]."""
        dims = np.arange(self.rotated)
        return np.concatenate([dims[::2], dims[1::2]]) if interleaved else dims

    def key_places(self, interleaved: bool) -> np.ndarray:
        """Which dimension of a stored query lies at each place of a head, [head_size]; -1: a zero.

        Pairs (i, head_size / 2 + i) rotate together, the first ones of all.
        """
        half = self.head_size // 2
        left, right = np.split(self.still + self.turning(interleaved), 2)
        first, second = np.split(np.arange(self.still), [min(self.still, half - len(left))])
        halves = [np.concatenate([left, first]), np.concatenate([right, second])]
        return np.concatenate([np.pad(dims, (0, half - len(dims)), constant_values=-1) for dims in halves])

    def value_places(self) -> np.ndarray:
        """The same of a value, among what is expanded for a head: `still` dimensions of its key, then the value's."""
        places = self.still + np.arange(self.value)
        return np.pad(places, (0, self.head_size - self.value), constant_values=-1)
