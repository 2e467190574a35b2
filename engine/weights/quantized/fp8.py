"""The formats "fp8", as Qwen, DeepSeek and others ship them, and "fbgemm_fp8", Llama's.

Which modules are quantised the stored types say; the list of those that are not adds nothing to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.errors import ModelError
from preftree.engine.weights.quantized.blocks import Blocks
from preftree.engine.weights.quantized.scaled import Scaled
from preftree.engine.weights.quantized.scheme import Format

# "inv" or not, the numbers are multiplied with: both names are in use for the same.
_SCALES = (".weight_scale_inv", ".weight_scale")
UNREAD = (
    *("input_scale", "input_scale_inv", "input_scale_ub", "activation_scale", "output_scale"),
    *("input_zero_point", "output_zero_point"),
    *("kv_scale", "k_scale", "v_scale", "q_scale", "k_zero_point", "v_zero_point"),
)


def read_fp8(fields: Mapping[str, Any]) -> Format:
    """ModelError for settings that cannot be followed."""
    kind = fields.get("fmt") or "e4m3"
    if kind not in ("e4m3", "e5m2"):
        raise ModelError(f"quantization_config: fmt {kind!r:.100} is not supported; preftree reads e4m3 and e5m2")
    size = fields.get("weight_block_size")
    blocks = Blocks() if size is None else blocks_of("weight_block_size", size)
    scheme = Scaled("fp8", blocks, _SCALES, has_exponents=fields.get("scale_fmt") == "ue8m0")
    return Format(lambda module: scheme, quantizes_activations=True, unread=UNREAD)


def read_fbgemm(fields: Mapping[str, Any]) -> Format:
    """One scale for each row; no settings matter."""
    scheme = Scaled("fp8", Blocks(height=1))
    return Format(lambda module: scheme, quantizes_activations=True, unread=UNREAD)


def blocks_of(field: str, value: Any) -> Blocks:
    """Blocks of [rows, columns]. ModelError where `value` is none such."""
    if not isinstance(value, list) or len(value) != 2:
        raise ModelError(f"quantization_config: {field} is {value!r:.100}, which is not a list of two numbers")
    for number in value:
        check_whole(f"quantization_config: {field}", number, LIMITS["intermediate_size"])
    return Blocks(*value)
