"""The format "compressed-tensors", which llm-compressor writes: several ways to store numbers, chosen by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.errors import ModelError
from preftree.engine.files import first_line
from preftree.engine.weights.quantized.blocks import Blocks
from preftree.engine.weights.quantized.fp8 import UNREAD, blocks_of
from preftree.engine.weights.quantized.packed import Packed
from preftree.engine.weights.quantized.scaled import Scaled
from preftree.engine.weights.quantized.scheme import Format, Scheme

_ONE_EACH = ("float-quantized", "int-quantized", "naive-quantized", "mxfp8-quantized")
_PACKED = "pack-quantized"
# Fields that change what a model computes, and the values that change nothing.
_REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "sparsity_config": ("sparse weights are", {"format": "dense"}),
    "transform_config": ("transforms of activations are", {"config_groups": {}}),
}


def read_compressed_tensors(fields: Mapping[str, Any]) -> Format:
    """ModelError for settings that cannot be followed."""
    for field, (what, neutral) in _REFUSED.items():
        value = fields.get(field)
        if value and not (isinstance(value, dict) and value | neutral == value):
            raise ModelError(f"quantization_config: {field}: {what} not supported; save the model without them")
    groups = fields.get("config_groups")
    if not isinstance(groups, dict) or not groups or not all(isinstance(group, dict) for group in groups.values()):
        raise ModelError(f"quantization_config: config_groups is {groups!r:.100}, which holds no groups of settings")
    schemes = {}
    for name, group in groups.items():
        scheme = _scheme(name, group, group.get("format") or fields.get("format"))
        for target in _targets(name, group):
            schemes[target] = scheme
    activations = any(group.get("input_activations") or group.get("output_activations") for group in groups.values())
    return Format(_chooser(schemes), bool(activations or fields.get("kv_cache_scheme")), UNREAD)


def _scheme(name: str, group: dict[str, Any], stored_as: Any) -> Scheme | None:
    """How the group's weights are stored; None where they are as they were."""
    weights = group.get("weights")
    if weights is None:
        return None
    where = f"quantization_config: {name!r:.100}"
    if not isinstance(weights, dict):
        raise ModelError(f"{where}: weights is {weights!r:.100}, which is not an object")
    kind, bits = weights.get("type") or "int", weights.get("num_bits", 8)
    has_zero_points = weights.get("symmetric", True) is not True
    if weights.get("actorder") in ("group", "dynamic", True):
        raise ModelError(f"{where}: actorder {weights['actorder']!r} is not supported; quantise the model without it")
    blocks = _blocks(where, weights)
    if stored_as in _ONE_EACH:
        if kind == "float" and bits == 8 and not has_zero_points:
            return Scaled("fp8", blocks, has_exponents=stored_as == "mxfp8-quantized")
        if kind == "int" and type(bits) is int and 2 <= bits <= 8:
            return Scaled("int8", blocks, has_zero_points=has_zero_points)
    elif stored_as == _PACKED:
        fits = blocks.height == 1 or (blocks == Blocks() and not has_zero_points)
        if kind == "int" and type(bits) is int and bits in (2, 4, 8) and fits:
            return Packed(bits, blocks, has_zero_points)
    else:
        known = ", ".join((*_ONE_EACH, _PACKED))
        raise ModelError(f"{where}: format {stored_as!r:.100} is not supported; preftree reads {known}")
    sort = "" if not has_zero_points else " with zero points"
    raise ModelError(f"{where}: {kind!r:.50} of {bits!r:.50} bits {blocks.title}{sort} is not supported in {stored_as}")


def _blocks(where: str, weights: dict[str, Any]) -> Blocks:
    """What shares a scale. Without `strategy`, the group size says it."""
    size, strategy = weights.get("group_size"), weights.get("strategy")
    if strategy is None:
        strategy = "tensor" if size is None else "channel" if size == -1 else "group"
    if strategy == "tensor":
        return Blocks()
    if strategy == "channel":
        return Blocks(height=1)
    if strategy == "group":
        check_whole(f"{where}: group_size", size, LIMITS["intermediate_size"])
        return Blocks(height=1, width=size, divide=True)
    if strategy == "block":
        block = weights.get("block_structure")
        if isinstance(block, str):  # as the first versions wrote it: "128x128"
            block = [int(part) if part.isdecimal() and len(part) < 9 else part for part in block.split("x")]
        return blocks_of("block_structure", block)
    raise ModelError(
        f"{where}: strategy {strategy!r:.100} is not supported; preftree reads tensor, channel, group and block"
    )


def _targets(name: str, group: dict[str, Any]) -> list[str]:
    targets = group.get("targets")
    if not isinstance(targets, list) or not targets or not all(isinstance(target, str) for target in targets):
        raise ModelError(
            f"quantization_config: {name!r:.100}: targets is {targets!r:.90}, which is not a list of names"
        )
    return targets


def _chooser(schemes: dict[str, Scheme | None]) -> Callable[[str], Scheme | None]:
    """The scheme of a module by its name, then by a pattern that it fits, then as one of all linear layers."""
    if len(schemes) == 1:  # whatever is stored quantised is so in the only way there is
        only = next(iter(schemes.values()))
        return lambda module: only
    names = {target: scheme for target, scheme in schemes.items() if not target.startswith("re:")}
    patterns = [target for target in sorted(schemes) if target.startswith("re:")]

    def choose(module: str) -> Scheme | None:
        if module in names:
            return names[module]
        pattern = next((pattern for pattern in patterns if _fits(pattern, module)), "Linear")
        return schemes.get(pattern)

    return choose


def _fits(target: str, module: str) -> bool:
    """Whether the name begins as "re:" and a pattern say. RE2 matches in linear time, whatever the model brings.

    ModelError for a pattern that is none, or that RE2 does not know.
    """
    import pyarrow
    from pyarrow import compute

    pattern = f"^(?:{target.removeprefix('re:')})"
    try:
        return bool(compute.match_substring_regex(pyarrow.array([module]), pattern=pattern)[0].as_py())
    except pyarrow.ArrowInvalid as error:
        raise ModelError(
            f"quantization_config: the target {target!r:.100} is no pattern ({first_line(error)})"
        ) from None
