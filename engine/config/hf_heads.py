"""Where config.json has what differs from layer to layer: attention's heads, and embeddings for each layer."""

from typing import Any

from preftree.engine.config.architecture import Architecture
from preftree.engine.config.heads import Heads, PerLayerInputs
from preftree.engine.errors import ModelError

_FIELDS = {"head_dim", "num_key_value_heads"}


def global_heads(config: dict[str, Any], architecture: Architecture, windows: tuple[int | None, ...]) -> Heads:
    """As transformers writes them, layer by layer, or as the models' authors do, in fields of their own.

    windows: of every layer; () where none has one. ModelError for layers without window that differ among themselves.
    """

    def optional(field: str, default: Any) -> Any:
        value = config.get(field)
        return default if value is None else value

    shared = optional("attention_k_eq_v", False)
    own = {"head_dim": optional("global_head_dim", architecture.global_head_dim)}
    if shared and config.get("num_global_key_value_heads") is not None:
        own["num_key_value_heads"] = config["num_global_key_value_heads"]
    if config.get("per_layer_config") is not None:
        own = _of_layers(config["per_layer_config"], windows or (None,) * config["num_hidden_layers"])
    return Heads(
        count=config["num_attention_heads"],
        kv_count=own.get("num_key_value_heads", optional("num_key_value_heads", architecture.num_kv_heads)),
        size=own.get("head_dim", optional("head_dim", architecture.head_dim)),
        keys_are_values=shared,
    )


def _of_layers(given: Any, windows: tuple[int | None, ...]) -> dict[str, Any]:
    """What every layer without window has of its own, where those with one have nothing."""
    if not isinstance(given, dict) or any(not isinstance(own, dict) for own in given.values()):
        raise ModelError(f"per_layer_config is {given!r:.100}, which is not an object of objects")
    # transformers fills the numbers up with zeros to a common length.
    numbered = {name.lstrip("0") or "0": own for name, own in given.items()}
    found = [numbered.pop(str(layer), {}) for layer in range(len(windows))]
    full = [own for own, window in zip(found, windows, strict=True) if window is None]
    is_uniform = all(own == full[0] for own in full) and sum(map(bool, found)) == sum(map(bool, full))
    if numbered or not is_uniform or not set(full[0]) <= _FIELDS:
        raise ModelError(
            f"per_layer_config {given!r:.100} is not supported; every layer without window has to have the same "
            f"{' and '.join(sorted(_FIELDS))}, and the others nothing"
        )
    return full[0]


def per_layer_inputs(config: dict[str, Any], architecture: Architecture) -> PerLayerInputs | None:
    """None where a size of 0, or the family, says that there are none."""
    size = config.get("hidden_size_per_layer_input", architecture.per_layer_inputs)
    return PerLayerInputs(size, config.get("vocab_size_per_layer_input", 262144)) if size else None
