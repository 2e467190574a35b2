"""Rotary position embedding: its settings, and its frequencies by transformers' formulas. NumPy only."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from preftree.engine.config.limits import LIMITS, check_positive
from preftree.engine.errors import ModelError

RopeKind = Literal["default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional"]


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding.

    factor: how far positions are stretched. original_context: tokens of the context before that; for "dynamic",
    "yarn", "longrope" and "llama3". low_freq_factor, high_freq_factor: for "llama3". attention_factor: multiplies sines
    and cosines, for "yarn" and "longrope"; beta_fast, beta_slow, truncate: for "yarn". short_factor, long_factor: of
    every frequency, in sequences up to original_context tokens and in longer ones, for "longrope".
    query_growth: queries are multiplied with 1 + query_growth * log(1 + original contexts before them), for "yarn".
    mscale_all_dim: scores are multiplied with the square of 1 + mscale_all_dim * log(factor) / 10, for "yarn".
    partial: share of a head's dimensions that rotate, the first ones; for "proportional" the first ones of both halves,
    with the frequencies that they have where all rotate. interleaved: neighbours among them do so
    together, and not dimensions of both halves.
    """

    theta: float = 10000.0
    kind: RopeKind = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    query_growth: float = 0.0
    mscale_all_dim: float = 0.0
    partial: float = 1.0
    interleaved: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(RopeKind):
            known = ", ".join(get_args(RopeKind))
            raise ModelError(f"rope type {self.kind!r:.100} is not supported; preftree knows {known}")
        check_positive("rope_theta", self.theta, 1e12)
        for field in ("factor", "low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow"):
            check_positive(f"rope {field}", getattr(self, field), 1e6)
        if self.query_growth != 0:
            check_positive("rope llama_4_scaling_beta", self.query_growth, 1e3)
        if self.mscale_all_dim != 0:
            check_positive("rope mscale_all_dim", self.mscale_all_dim, 1e3)
        for field in ("short_factor", "long_factor"):
            for value in getattr(self, field):
                check_positive(f"rope {field}", value, 1e6)
        check_positive("rope original_max_position_embeddings", self.original_context, LIMITS["max_context"])
        check_positive("partial_rotary_factor", self.partial, 1.0)
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ModelError("rope high_freq_factor must be above low_freq_factor")
        if self.kind == "dynamic" and self.factor < 1:
            raise ModelError(f"rope factor is {self.factor}; a dynamic one must be at least 1")
        if not isinstance(self.truncate, bool):
            raise ModelError(f"rope truncate is {self.truncate!r:.100}, neither true nor false")

    def check(self, head_dim: int) -> None:
        """ModelError unless heads of this size can rotate so."""
        rotated = self.rotated(head_dim)
        if rotated < 2 or rotated % 2:
            raise ModelError(
                f"{rotated} of a head's {head_dim} dimensions rotate; rotary embedding needs an even number"
            )
        if self.kind == "dynamic" and rotated == 2:
            raise ModelError("rope type 'dynamic' needs more than two rotating dimensions")
        for field in ("short_factor", "long_factor"):
            if self.kind == "longrope" and len(getattr(self, field)) != rotated // 2:
                count = len(getattr(self, field))
                raise ModelError(
                    f"rope {field} has {count} numbers, but {rotated // 2} frequencies are there to stretch"
                )

    def rotated(self, head_dim: int) -> int:
        """How many dimensions of a head rotate, those included whose frequency is 0."""
        return head_dim if self.kind == "proportional" else int(head_dim * self.partial)

    @property
    def score_scale(self) -> float:
        """What attention scores are multiplied with, beside what is made of the head size."""
        grows = self.mscale_all_dim != 0 and self.factor > 1
        return (0.1 * self.mscale_all_dim * math.log(self.factor) + 1) ** 2 if grows else 1.0

    def rope_variant(self, length: int) -> int:
        """Which RoPE frequencies apply to a sequence of `length` tokens. Only equal variants may share K/V.

        In transformers "dynamic" and "longrope" look at the whole sequence, so that the same tokens have other keys in
        a longer prompt.

        Returns:
            0 for everything that fits the original context. Beyond it a length that has the variant: "longrope" has one
            more variant, "dynamic" one for every length.
        """
        if self.kind not in ("dynamic", "longrope") or length <= self.original_context:
            return 0
        return length if self.kind == "dynamic" else self.original_context + 1


@dataclass(frozen=True)
class RotaryTable:
    """frequencies: radians per token. scale: of the sine and cosine. Both float64 [head_dim / 2].

    A dimension that does not rotate has frequency 0 and scale 1.
    """

    frequencies: np.ndarray
    scale: np.ndarray


def rotary_table(rope: RopeConfig, head_dim: int, rope_variant: int = 0) -> RotaryTable:
    """The angles of a head whose dimensions are in the order of `rotary_order`.

    rope_variant: see `RopeConfig.rope_variant`.
    """
    frequencies = _frequencies(rope, rope.rotated(head_dim), rope_variant)
    still = head_dim // 2 - len(frequencies)
    scale = np.full(len(frequencies), rope.attention_factor)
    return RotaryTable(np.pad(frequencies, (0, still)), np.pad(scale, (0, still), constant_values=1.0))


def rotary_order(rope: RopeConfig, head_dim: int) -> np.ndarray | None:
    """Dimensions of a stored head in the order in which the kernels rotate pairs (i, i + head_dim / 2).

    None where the order is the stored one. Scores do not see the order, as queries and keys share it.
    """
    rotated = rope.rotated(head_dim)
    if rotated == head_dim and not rope.interleaved:
        return None
    turning, still = np.split(np.arange(head_dim), [rotated])
    left, right = (turning[::2], turning[1::2]) if rope.interleaved else np.split(turning, 2)
    middle = len(still) // 2
    return np.concatenate([left, still[:middle], right, still[middle:]])


def _frequencies(rope: RopeConfig, dims: int, rope_variant: int) -> np.ndarray:
    """Inverse frequencies of `dims` rotating dimensions, float64 [dims / 2]."""
    theta = rope.theta
    if rope.kind == "dynamic":
        stretch = rope.factor * max(rope_variant, rope.original_context) / rope.original_context - (rope.factor - 1)
        theta *= stretch ** (dims / (dims - 2))
    inverse = theta ** -(np.arange(0, dims, 2, dtype=np.float64) / dims)
    if rope.kind == "linear":
        return inverse / rope.factor
    if rope.kind == "proportional":
        inverse[int(rope.partial * dims // 2) :] = 0
        return inverse / rope.factor
    if rope.kind == "longrope":
        return inverse / np.array(rope.long_factor if rope_variant > rope.original_context else rope.short_factor)
    if rope.kind == "yarn":
        kept = _yarn_kept(rope, dims)
        return kept * inverse + (1 - kept) * inverse / rope.factor
    if rope.kind == "llama3":
        wavelength = 2 * math.pi / inverse
        # 1 keeps a frequency, 0 divides it by the factor; between the two wavelengths it goes over smoothly.
        kept = (rope.original_context / wavelength - rope.low_freq_factor) / (
            rope.high_freq_factor - rope.low_freq_factor
        )
        kept = np.clip(kept, 0.0, 1.0)
        return kept * inverse + (1 - kept) * inverse / rope.factor
    return inverse


def _yarn_kept(rope: RopeConfig, dims: int) -> np.ndarray:
    """1 where a frequency stays, 0 where it is divided by the factor (Peng et al., 2023)."""

    def place(rotations: float) -> float:
        """Of the frequency that turns so often within the original context, among all dimensions."""
        return dims * math.log(rope.original_context / (rotations * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = place(rope.beta_fast), place(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    if low == high:
        high += 0.001
    return 1 - np.clip((np.arange(dims // 2) - low) / (high - low), 0.0, 1.0)
