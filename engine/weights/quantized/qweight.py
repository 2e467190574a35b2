"""What the formats "awq" and "gptq" have in common: settings, names of tensors, and groups with zero points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.errors import ModelError
from preftree.engine.weights.quantized.blocks import Blocks
from preftree.engine.weights.quantized.scheme import Stored

QWEIGHT, QZEROS, SCALES = ".qweight", ".qzeros", ".scales"
# Fields that change what a model computes, or how it is stored, where they are set.
_REFUSED = ("rotation", "adapter", "is_marlin_format")
_OVERRIDDEN = ("bits", "group_size", "sym", "desc_act", "format", "checkpoint_format", "pack_dtype")


def check_settings(fields: Mapping[str, Any]) -> None:
    """ModelError for settings that neither format is read with."""
    for field in _REFUSED:
        if fields.get(field):
            raise ModelError(f"quantization_config: {field} {fields[field]!r:.100} is not supported")
    check_names("pack_dtype", [fields.get("pack_dtype", "int32")], ("int32",))
    _check_overrides(fields)


def _check_overrides(fields: Mapping[str, Any]) -> None:
    """ModelError where some modules have settings that others have not.

    Patterns that begin with "-:" name modules that are not quantised, as the stored tensors say, too.
    """
    dynamic = fields.get("dynamic") or {}
    if not isinstance(dynamic, dict):
        raise ModelError(f"quantization_config: dynamic is {dynamic!r:.100}, which is not an object")
    for pattern, settings in dynamic.items():
        if pattern.startswith("-:") or settings in (None, {}):
            continue
        same = isinstance(settings, dict) and all(
            settings[name] == fields.get(name) for name in _OVERRIDDEN if name in settings
        )
        if not same:
            raise ModelError(
                f"quantization_config: dynamic has settings of their own for the modules {pattern!r:.100}, which is "
                "not supported; quantise the model with the same settings for all"
            )


def check_names(field: str, names: Iterable[Any], known: tuple[str, ...]) -> None:
    """ModelError unless all names that a field, or another spelling of it, has are known."""
    for name in names:
        if name not in known:
            raise ModelError(
                f"quantization_config: {field} {name!r:.100} is not supported; preftree reads {', '.join(known)}"
            )


def groups_of(field: str, size: Any) -> Blocks:
    """Groups of `size` columns, or of all for -1. ModelError for what is no size."""
    if type(size) is int and size == -1:
        return Blocks(height=1)
    check_whole(f"quantization_config: {field}", size, LIMITS["intermediate_size"])
    return Blocks(height=1, width=size, divide=True)


def check_part(stored: Mapping[str, Stored], suffix: str, shape: tuple[int, ...]) -> None:
    """ModelError unless the tensor is one of words, and of this shape."""
    if stored[suffix] != ("I32", shape):
        dtype, actual = stored[suffix]
        raise ModelError(f"{suffix} is {dtype} of shape {actual}, but the configuration asks for I32 of shape {shape}")


def check_scales(stored: Mapping[str, Stored], shape: tuple[int, ...]) -> None:
    dtype, actual = stored[SCALES]
    if dtype not in ("F16", "BF16", "F32") or actual != shape:
        raise ModelError(f"{SCALES} is {dtype} of shape {actual}, but the configuration asks for F16 of shape {shape}")


def rescaled(values: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """`values` [rows, columns], changed. zeros, scales: [rows, groups] for groups of neighbouring columns."""
    values.unflatten(1, (zeros.shape[1], -1)).sub_(zeros.unsqueeze(2)).mul_(scales.unsqueeze(2))
    return values
