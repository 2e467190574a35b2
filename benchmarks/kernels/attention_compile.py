"""What the compile report compiles of tree attention: every entry of the launch table, bfloat16."""

from __future__ import annotations

from typing import Any

import triton

from kernels import launch
from kernels.attention import tree_attention_kernel

ARCHITECTURES = (80, 90)


def cases() -> list[dict[str, Any]]:
    """One case per architecture, head size and tile height. Needs a process without TRITON_INTERPRET."""
    return [
        _case(arch, size, settings)
        for arch in ARCHITECTURES
        for size in launch.HEAD_SIZES
        for settings in _all_settings(arch, size)
    ]


def _all_settings(arch: int, size: int) -> list[launch.AttentionSettings]:
    """From a tile of one token to the tallest, without repetition."""
    tallest = launch.tile_rows(arch, size, dtype_bytes=2, group=1)
    found = (launch.attention_settings(arch, size, 2, packed_rows) for packed_rows in range(1, tallest + 1))
    return list(dict.fromkeys(found))


def _case(arch: int, size: int, settings: launch.AttentionSettings) -> dict[str, Any]:
    names = tree_attention_kernel.arg_names
    constexprs = {
        "SIZE": size,
        "BLOCK_M": settings.block_m,
        "BLOCK_N": settings.block_n,
        "BLOCK_D": triton.next_power_of_2(size),
    }
    types = dict.fromkeys(names, "*i32") | dict.fromkeys(("p_queries", "p_kv", "p_out"), "*bf16")
    types |= {"scale": "fp32", "group": "i32", "kv_heads": "i32"} | dict.fromkeys(constexprs, "constexpr")
    pointers = [(place,) for place, name in enumerate(names) if types[name].startswith("*")]
    return {
        "name": f"tree_attention, tiles of {settings.block_m}",
        "fn": tree_attention_kernel,
        "signature": types,
        "constexprs": constexprs,
        # As the JIT marks pointers of torch's allocator.
        "attrs": {place: [["tt.divisibility", 16]] for place in pointers},
        "num_warps": settings.num_warps,
        "num_stages": settings.num_stages,
        "arch": arch,
        "dtype": "bf16",
        "head_size": size,
    }
