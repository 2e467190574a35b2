"""Rotary position embedding: its settings, where config.json has them, and its frequencies. NumPy only."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from engine.errors import ModelError
from engine.loading.limits import LIMITS, check_positive

RopeKind = Literal["default", "linear", "llama3"]


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding. `original_context` (tokens) and the freq_factors serve "llama3" only."""

    theta: float = 10000.0
    kind: RopeKind = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192

    def __post_init__(self) -> None:
        if self.kind not in get_args(RopeKind):
            known = ", ".join(get_args(RopeKind))
            raise ModelError(f"rope type {self.kind!r:.100} is not supported; preftree knows {known}")
        check_positive("rope_theta", self.theta, 1e12)
        check_positive("rope factor", self.factor, 1e6)
        check_positive("rope low_freq_factor", self.low_freq_factor, 1e6)
        check_positive("rope high_freq_factor", self.high_freq_factor, 1e6)
        check_positive("rope original_max_position_embeddings", self.original_context, LIMITS["max_context"])
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ModelError("rope high_freq_factor must be above low_freq_factor")


def rope_from_hf(config: dict[str, Any], max_context: int) -> RopeConfig:
    """Old style (`rope_theta` and `rope_scaling`) or that of transformers 5 (`rope_parameters`)."""
    old, new = config.get("rope_scaling"), config.get("rope_parameters")
    if old and new and old != new:
        raise ModelError("has both rope_scaling and rope_parameters and they differ; keep the right one")
    scaling = new or old or {}
    if not isinstance(scaling, dict):
        raise ModelError(f"rope_scaling is {scaling!r:.100}, which is not an object")
    for holder in (config, scaling):
        if holder.get("partial_rotary_factor") not in (None, 1, 1.0):
            raise ModelError("partial_rotary_factor is not supported; every dimension has to rotate")
    theta = scaling.get("rope_theta", config.get("rope_theta"))
    base = RopeConfig(theta=10000.0 if theta is None else theta)
    kind: Any = scaling.get("rope_type", scaling.get("type")) or "default"
    if kind == "default":
        return base
    needed = {"linear": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
    for field in needed.get(kind if isinstance(kind, str) else "", ()):
        if field not in scaling:
            raise ModelError(f"rope type {kind!r} needs the field {field}")
    return RopeConfig(
        theta=base.theta,
        kind=kind,
        factor=scaling.get("factor", base.factor),
        low_freq_factor=scaling.get("low_freq_factor", base.low_freq_factor),
        high_freq_factor=scaling.get("high_freq_factor", base.high_freq_factor),
        original_context=scaling.get("original_max_position_embeddings") or max_context,
    )


def rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    """The keys of config.json that `rope_from_hf` and transformers (4 and 5) read as `rope`."""
    scaling: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta, "factor": rope.factor}
    if rope.kind == "llama3":
        scaling["low_freq_factor"] = rope.low_freq_factor
        scaling["high_freq_factor"] = rope.high_freq_factor
        scaling["original_max_position_embeddings"] = rope.original_context
    return {"rope_theta": rope.theta, "rope_scaling": None if rope.kind == "default" else scaling}


def rope_frequencies(rope: RopeConfig, head_dim: int) -> np.ndarray:
    """Inverse frequencies in radians per token, float64 [head_dim / 2]; transformers' formulas."""
    inverse = rope.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "linear":
        return inverse / rope.factor
    if rope.kind == "llama3":
        wavelength = 2 * math.pi / inverse
        # 1 keeps a frequency, 0 divides it by the factor; between the two wavelengths it goes over smoothly.
        kept = (rope.original_context / wavelength - rope.low_freq_factor) / (
            rope.high_freq_factor - rope.low_freq_factor
        )
        kept = np.clip(kept, 0.0, 1.0)
        return kept * inverse + (1 - kept) * inverse / rope.factor
    return inverse
