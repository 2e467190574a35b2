"""Where config.json has the sizes of a mixture of experts, and the rules of its router."""

from typing import Any

from preftree.engine.config.architecture import Experts, SharedExpert
from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.config.model_config import ExpertsConfig
from preftree.engine.errors import ModelError


def experts_from_hf(config: dict[str, Any], names: Experts) -> ExpertsConfig:
    """Sizes and routing. ModelError for fields that contradict each other, or that cannot be followed."""

    def optional(field: str, default: Any) -> Any:
        value = config.get(field)
        return default if value is None else value

    counts = [config[field] for field in names.count_fields if config.get(field) is not None]
    if len(counts) > 1 and counts[0] != counts[1]:
        raise ModelError(f"{' and '.join(names.count_fields)} differ ({counts!r:.100}); keep the right one")
    width, router = optional(names.width, names.default_width), {}
    if names.sigmoid is not None:
        given = {field: optional(field, default) for field, default in names.sigmoid.defaults.items()}
        router = {
            "groups": given["n_group"],
            "kept_groups": given["topk_group"],
            "scaling": given["routed_scaling_factor"],
        }
    return ExpertsConfig(
        count=counts[0] if counts else names.default_count,
        per_token=optional("num_experts_per_tok", names.default_per_token),
        width=width,
        normalised=names.always_normalised or optional("norm_topk_prob", names.normalised),
        layers=_sparse_layers(config, names),
        shared_width=0 if names.shared is None else _shared_width(config, names.shared, width),
        **router,
    )


def _sparse_layers(config: dict[str, Any], names: Experts) -> frozenset[int]:
    """The layers that have experts. ModelError where the fields that tell them cannot be followed."""
    layers = range(config["num_hidden_layers"])
    if names.sparse_fields:
        step, dense = config.get("decoder_sparse_step"), config.get("mlp_only_layers")
        step, dense = 1 if step is None else step, [] if dense is None else dense
        check_whole("decoder_sparse_step", step, LIMITS["num_layers"])
        if not isinstance(dense, list):
            raise ModelError(f"mlp_only_layers is {dense!r:.100}, which is not a list")
        return frozenset(layer for layer in layers if layer not in dense and (layer + 1) % step == 0)
    if names.sigmoid is not None:
        first = config.get("first_k_dense_replace")
        first = names.sigmoid.dense_layers if first is None else first
        if first != 0 or isinstance(first, bool):
            check_whole("first_k_dense_replace", first, LIMITS["num_layers"])
        return frozenset(layers[first:])
    return frozenset(layers)


def _shared_width(config: dict[str, Any], shared: SharedExpert, width: Any) -> Any:
    value = config.get(shared.field)
    value = shared.default if value is None else value
    if not shared.counted:
        return value
    for field, number in ((shared.field, value), ("moe_intermediate_size", width)):
        check_whole(field, number, LIMITS["intermediate_size"])
    return value * width
