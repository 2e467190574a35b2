"""Where config.json has the settings of the rotary position embedding, old style and that of transformers 5."""

import math
from typing import Any

from preftree.engine.config.architecture import Architecture
from preftree.engine.config.hf_latent import latent_from_hf
from preftree.engine.config.limits import LIMITS, check_positive, check_whole
from preftree.engine.config.rope import RopeConfig
from preftree.engine.errors import ModelError

# `finetuned` is a note that some YaRN models carry.
_FIELDS = {
    *("rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings"),
    *("low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow", "truncate"),
    *("mscale", "mscale_all_dim", "short_factor", "long_factor", "finetuned"),
}
_NEEDED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
}
LAYER_TYPES = ("full_attention", "sliding_attention")


def ropes_from_hf(
    config: dict[str, Any], architecture: Architecture, max_context: int
) -> tuple[RopeConfig, RopeConfig | None]:
    """The rotary embedding, and that of windowed layers where the family has one of their own.

    max_context: `max_position_embeddings`. ModelError for what is missing, unknown or contradicts itself.
    """
    scaling = _scaling(config) or architecture.default_rope
    if architecture.local_theta is None:
        return _rope(scaling, config, architecture, max_context), None
    if not set(scaling) & set(LAYER_TYPES):
        scaling = {"full_attention": scaling}
    if set(scaling) - set(LAYER_TYPES):
        raise ModelError(f"rope_parameters holds {sorted(set(scaling) - set(LAYER_TYPES))!r:.100} beside layer types")
    full, local = (_object(scaling.get(kind) or {}) for kind in LAYER_TYPES)
    field = architecture.local_theta_field
    local_theta = None if field is None else config.get(field)
    local = {"rope_theta": architecture.local_theta if local_theta is None else local_theta} | local
    return _rope(full, config, architecture, max_context), _rope(local, config, architecture, max_context)


def _scaling(config: dict[str, Any]) -> dict[str, Any]:
    old, new = config.get("rope_scaling"), config.get("rope_parameters")
    if old and new and old != new:
        raise ModelError("has both rope_scaling and rope_parameters and they differ; keep the right one")
    return _object(new or old or {})


def _object(scaling: Any) -> dict[str, Any]:
    if not isinstance(scaling, dict):
        raise ModelError(f"rope_scaling is {scaling!r:.100}, which is not an object")
    return scaling


def _rope(scaling: dict[str, Any], config: dict[str, Any], architecture: Architecture, max_context: int) -> RopeConfig:
    unknown = sorted(set(scaling) - _FIELDS - set(architecture.rope_fields))
    if unknown:
        raise ModelError(f"rope_scaling has the field {unknown[0]!r:.100}, which preftree does not know")
    theta = scaling.get("rope_theta", config.get("rope_theta"))
    kind: Any = scaling.get("rope_type", scaling.get("type")) or "default"
    kind = architecture.rope_aliases.get(kind, kind) if isinstance(kind, str) else kind
    if kind not in architecture.rope_kinds:
        known = ", ".join(architecture.rope_kinds)
        raise ModelError(f"rope type {kind!r:.100} is not supported; preftree knows {known} in {architecture.title}")
    base = {
        "theta": architecture.theta if theta is None else theta,
        "partial": _partial(scaling, config, architecture, kind),
        "interleaved": _interleaved(config, architecture),
    }
    if kind == "dynamic" and scaling.get("alpha"):
        return RopeConfig(**base | {"theta": _stretched(base["theta"], scaling["alpha"], config)})
    for field in _NEEDED.get(kind, ()):
        if field not in scaling:
            raise ModelError(f"rope type {kind!r} needs the field {field}")
    if kind == "default":
        return RopeConfig(**base)
    if kind == "linear":
        return RopeConfig(**base, kind=kind, factor=scaling["factor"])
    if kind == "proportional":
        return RopeConfig(**base, kind=kind, factor=_given(scaling, "factor", 1.0))
    if kind == "dynamic":
        return RopeConfig(**base, kind=kind, factor=scaling["factor"], original_context=max_context)
    original = _original_context(scaling, config, architecture) or max_context
    check_positive("rope original_max_position_embeddings", original, LIMITS["max_context"])
    if kind == "llama3":
        given = {field: scaling[field] for field in _NEEDED[kind]}
        return RopeConfig(**base, kind=kind, original_context=original, **given)
    # Of the two, a factor that is not given is the ratio of the contexts.
    factor = scaling.get("factor")
    factor = max_context / original if factor is None else factor
    base |= {"kind": kind, "factor": factor, "original_context": original}
    check = RopeConfig(theta=base["theta"], factor=factor, original_context=original)
    if kind == "longrope":
        lists: dict[str, Any] = {field: _numbers(field, scaling[field]) for field in _NEEDED[kind]}
        return RopeConfig(
            **base, **lists, attention_factor=_given(scaling, "attention_factor", _longrope_attention(check))
        )
    return RopeConfig(
        **base,
        attention_factor=_given(scaling, "attention_factor", _yarn_attention(check, scaling)),
        beta_fast=scaling.get("beta_fast") or 32,
        beta_slow=scaling.get("beta_slow") or 1,
        query_growth=_given(scaling, "llama_4_scaling_beta", 0.0),
        mscale_all_dim=0.0 if architecture.latent is None else _given(scaling, "mscale_all_dim", 0.0),
        truncate=scaling.get("truncate", True),
    )


def _stretched(theta: Any, alpha: Any, config: dict[str, Any]) -> float:
    """The base of a rotary embedding that is stretched by `alpha` in sequences of any length (Hunyuan)."""
    check_positive("rope_theta", theta, 1e12)
    check_positive("rope alpha", alpha, 1e6)
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    check_whole("head_dim", size, LIMITS["head_dim"])
    if size <= 2:
        raise ModelError(f"rope alpha needs a head_dim of more than two; it is {size}")
    return float(theta * alpha ** (size / (size - 2)))


def _given(scaling: dict[str, Any], field: str, default: float) -> Any:
    value = scaling.get(field)
    return default if value is None else value


def _interleaved(config: dict[str, Any], architecture: Architecture) -> bool:
    value = config.get("rope_interleave") if architecture.latent is not None else None
    if value is not None and not isinstance(value, bool):
        raise ModelError(f"rope_interleave is {value!r:.100}, neither true nor false")
    return architecture.interleaved if value is None else value


def _partial(scaling: dict[str, Any], config: dict[str, Any], architecture: Architecture, kind: str) -> Any:
    partial = scaling.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if architecture.latent is not None and partial in (None, 1):
        latent = latent_from_hf(config, architecture.latent)
        return latent.rotated / latent.head_size
    if partial is None:
        return architecture.partial_rotary or 1.0
    if partial != 1 and architecture.partial_rotary is None and kind != "proportional":
        raise ModelError(
            f"partial_rotary_factor is not supported in {architecture.title}; every dimension has to rotate"
        )
    return partial


def _original_context(scaling: dict[str, Any], config: dict[str, Any], architecture: Architecture) -> Any:
    """Beside the other settings, or among the model's own; None where it is in neither."""
    inner, outer = scaling.get("original_max_position_embeddings"), config.get("original_max_position_embeddings")
    outer = architecture.original_context if outer is None else outer
    if inner is not None and outer is not None and inner != outer:
        raise ModelError(
            f"original_max_position_embeddings is {outer!r:.100}, but {inner!r:.100} in rope_scaling; keep one"
        )
    return outer if inner is None else inner


def _numbers(field: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise ModelError(f"rope {field} is {values!r:.100}, which is not a list")
    return tuple(values)


def _longrope_attention(rope: RopeConfig) -> float:
    if rope.factor <= 1 or rope.original_context == 1:
        return 1.0
    return math.sqrt(1 + math.log(rope.factor) / math.log(rope.original_context))


def _yarn_attention(rope: RopeConfig, scaling: dict[str, Any]) -> float:
    def of(weight: Any) -> float:
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise ModelError(f"rope mscale is {weight!r:.100}, which is not a number")
        return 1.0 if rope.factor <= 1 else 0.1 * weight * math.log(rope.factor) + 1.0

    weight, weight_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return of(weight) / of(weight_all) if weight and weight_all else of(1)
