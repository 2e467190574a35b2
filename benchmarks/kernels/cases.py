"""What the compile report compiles of the element-wise kernels and the label head.

A case has the sizes of a real model, as the JIT would see them at launch: pointers of torch's allocator and integers
that 16 divides are marked so, an integer of 1 becomes a constant.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from kernels import label_head, norm, rope_store, swiglu
from kernels.launch import HEAD_SIZES

ARCHITECTURES = (80, 90)
# SmolLM2-135M, Llama 3 8B, and the longest row there is.
HIDDEN_SIZES = (576, 4096, norm.MAX_HIDDEN)
POINTERS = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32", torch.int64: "*i64"}
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def cases() -> list[dict[str, Any]]:
    """Every kernel and architecture; bfloat16, and float32 where other settings serve it.

    Needs a process without TRITON_INTERPRET.
    """
    return [
        case
        for arch in ARCHITECTURES
        for case in (*_norm_cases(arch), *_rope_cases(arch), _swiglu_case(arch), *_label_head_cases(arch))
    ]


def _norm_cases(arch: int) -> list[dict[str, Any]]:
    found = []
    for hidden in HIDDEN_SIZES:
        block, warps = norm.settings(hidden)
        for has_update in (False, True):
            values = {
                "p_x": torch.bfloat16,
                "p_update": torch.bfloat16 if has_update else None,
                "p_weight": torch.bfloat16,
                "p_out": torch.bfloat16,
                "eps": 1e-5,
                "hidden": hidden,
            }
            constants = {"BLOCK": block, "HAS_UPDATE": has_update}
            name = f"{'add_' * has_update}rms_norm of {hidden}"
            found.append(_case(name, arch, norm.rms_norm_kernel, values, constants, num_warps=warps))
    return found


def _rope_cases(arch: int) -> list[dict[str, Any]]:
    found = []
    for size in HEAD_SIZES:
        block_units, block_half = rope_store.settings(size)
        for has_norm in (False, True):
            for has_values in (False, True):
                heads = 8 if has_values else 32
                width = heads * size * (1 + has_values)
                values = dict.fromkeys(("p_x", "p_cos", "p_sin", "p_out"), torch.bfloat16) | {
                    "p_norm": torch.bfloat16 if has_norm else None,
                    "eps": 1e-6,
                    "units": 4096 * heads,
                    "heads": heads,
                    "x_row_stride": width,
                    "out_row_stride": width,
                    "out_value_stride": heads * size if has_values else 0,
                    "out_head_stride": size,
                }
                constants = {
                    "SIZE": size,
                    "BLOCK_UNITS": block_units,
                    "BLOCK_HALF": block_half,
                    "HAS_NORM": has_norm,
                    "HAS_VALUES": has_values,
                }
                name = ("store_kv" if has_values else "rotate") + (", normed" if has_norm else "")
                warps = rope_store.NUM_WARPS
                found.append(_case(name, arch, rope_store.rope_kernel, values, constants, warps, head_size=size))
    return found


def _swiglu_case(arch: int) -> dict[str, Any]:
    values = {"p_gate_up": torch.bfloat16, "p_out": torch.bfloat16, "width": 14336}
    return _case("swiglu", arch, swiglu.swiglu_kernel, values, {"BLOCK": swiglu.BLOCK}, swiglu.NUM_WARPS)


def _label_head_cases(arch: int) -> list[dict[str, Any]]:
    vocab, hidden = 128256, 4096
    found = [_split_case(arch, dtype, hidden) for dtype in (torch.bfloat16, torch.float32)]
    # A hidden size that no block divides takes masked loads.
    found.append(_split_case(arch, torch.bfloat16, hidden=1008))
    splits = triton.cdiv(vocab, label_head.SETTINGS[torch.bfloat16].split)
    values: dict[str, Any] = dict.fromkeys(("p_max", "p_sum", "p_out"), torch.float32) | {"splits": splits}
    constants = {"BLOCK": triton.next_power_of_2(splits)}
    found.append(_case("label_head, join", arch, label_head.join_kernel, values, constants, label_head.JOIN_WARPS))
    values = {
        "p_hidden": torch.bfloat16,
        "p_weight": torch.bfloat16,
        "p_query_row": torch.int64,
        "p_query_token": torch.int64,
        "p_logit": torch.float32,
        "hidden": hidden,
    }
    constants = {"BLOCK": triton.next_power_of_2(hidden)}
    found.append(_case("label_head, logits", arch, label_head.logit_kernel, values, constants, label_head.LOGIT_WARPS))
    return found


def _split_case(arch: int, dtype: torch.dtype, hidden: int) -> dict[str, Any]:
    chosen = label_head.SETTINGS[dtype]
    values = {
        "p_hidden": dtype,
        "p_weight": dtype,
        "p_max": torch.float32,
        "p_sum": torch.float32,
        "num_rows": 200,
        "vocab": 128256,
        "hidden": hidden,
    }
    constants = {
        "SPLIT": chosen.split,
        "BLOCK_ROWS": chosen.block_rows,
        "BLOCK_VOCAB": chosen.block_vocab,
        "BLOCK_HIDDEN": chosen.block_hidden,
        "EVEN_HIDDEN": hidden % chosen.block_hidden == 0,
    }
    case = _case(
        f"label_head, split, hidden {hidden}",
        arch,
        label_head.split_kernel,
        values,
        constants,
        chosen.num_warps,
        chosen.num_stages,
    )
    return case | {"dtype": NAMES[dtype]}


def _case(
    name: str,
    arch: int,
    fn: Any,
    values: dict[str, Any],
    constants: dict[str, Any],
    num_warps: int,
    num_stages: int = 3,
    head_size: int | None = None,
) -> dict[str, Any]:
    """values: a dtype for a pointer to it, None, or an example of a number."""
    signature, attributes, fixed = {}, {}, dict(constants)
    for place, argument in enumerate(fn.arg_names):
        value = values.get(argument)
        signature[argument] = _type_of(argument, value, constants)
        if signature[argument] == "constexpr" and argument not in constants:
            fixed[argument] = value
        if isinstance(value, torch.dtype) or (isinstance(value, int) and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    return {
        "name": name,
        "fn": fn,
        "signature": signature,
        "constexprs": fixed,
        "attrs": attributes,
        "num_warps": num_warps,
        "num_stages": num_stages,
        "arch": arch,
        "dtype": "bf16",
        "head_size": head_size,
    }


def _type_of(argument: str, value: Any, constants: dict[str, Any]) -> str:
    if argument in constants or value is None or value == 1:
        return "constexpr"
    if isinstance(value, torch.dtype):
        return POINTERS[value]
    return "fp32" if isinstance(value, float) else "i32"
