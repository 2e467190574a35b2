"""What a model computes with because its config.json says nothing: defaults of its class in transformers."""

from typing import Any

from preftree.engine.config.architectures import ARCHITECTURES
from preftree.engine.config.model_config import ModelConfig

_NORM_EPS = ("rms_norm_eps", "layer_norm_eps", "norm_eps")
_ROPES = ("rope_parameters", "rope_scaling")


def assumed(fields: dict[str, Any], config: ModelConfig) -> str | None:
    """One line; None where config.json says it all.

    fields: of config.json, in a directory with a vision model those of `text_config`.
    """
    family = ARCHITECTURES[config.architecture]
    read: dict[str, Any] = {
        "max_position_embeddings": family.max_context,
        "num_key_value_heads": config.num_kv_heads,
        "tie_word_embeddings": str(config.tie_embeddings).lower(),
    }
    missing = {name: value for name, value in read.items() if name not in fields}
    if family.head_dim is not None and fields.get("head_dim") is None:
        missing["head_dim"] = config.head_dim
    if not any(name in fields for name in _NORM_EPS):
        missing[_NORM_EPS[0]] = config.norm_eps
    if not _has_theta(fields):
        missing["rope_theta"] = config.rope.theta
    if not missing:
        return None
    listed = ", ".join(f"{name} {value}" for name, value in missing.items())
    return f"{listed}: config.json says nothing, and these are the defaults of {family.class_name}"


def _has_theta(fields: dict[str, Any]) -> bool:
    places = [fields, *(fields.get(name) or {} for name in _ROPES)]
    places += [part for place in places[1:] for part in place.values() if isinstance(part, dict)]
    return any("rope_theta" in place for place in places)
