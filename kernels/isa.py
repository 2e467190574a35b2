"""Which instructions a CPU's matrix products run on, and which types they make fast: from facts, nothing is timed.

oneDNN multiplies with what the processor has and its environment variable allows. It offers no way to ask it, so the
variable is read here as oneDNN reads it.
"""

from __future__ import annotations

import os

import torch

# The first one that is set counts. oneDNN reads them at its first product; a later change has no effect on it.
_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_AVX2 = frozenset({"avx2"})
_AVX2_VNNI = _AVX2 | {"avx_vnni"}
_AVX512 = _AVX2 | {"avx512"}
_AVX512_VNNI = _AVX512 | {"avx512_vnni"}
_AVX512_BF16 = _AVX512_VNNI | {"avx512_bf16"}
_AVX512_FP16 = _AVX512_BF16 | {"avx512_fp16", "avx_vnni"}
_AMX = _AVX512_FP16 | {"amx"}
_AMX_FP16 = _AMX | {"amx_fp16"}
# What each value of the variable allows (oneDNN's page "CPU Dispatcher Control", and src/cpu/x64/cpu_isa_traits.hpp).
_ALLOWED: dict[str, frozenset[str]] = {
    "sse41": frozenset(),
    "avx": frozenset(),
    "avx2": _AVX2,
    "avx2_vnni": _AVX2_VNNI,
    "avx2_vnni_2": _AVX2_VNNI,
    "avx512_core": _AVX512,
    "avx512_core_vnni": _AVX512_VNNI,
    "avx512_core_bf16": _AVX512_BF16,
    "avx512_core_fp16": _AVX512_FP16,
    "avx512_core_amx": _AMX,
    "avx512_core_amx_fp16": _AMX_FP16,
    "avx10_1_512": _AVX512_FP16,
    "avx10_1_512_amx": _AMX,
    "avx10_1_512_amx_fp16": _AMX_FP16,
    "avx10_2": _AVX512_FP16,
    "avx10_2_512": _AVX512_FP16,
    "avx10_2_amx_2": _AMX_FP16,
    "avx10_2_512_amx_2": _AMX_FP16,
}
# Where `torch.cpu.get_capabilities` has other names for them.
_FEATURES = {
    "avx512": ("avx512_f",),
    "amx": ("amx_tile", "amx_bf16", "amx_int8"),
    "amx_fp16": ("amx_tile", "amx_bf16", "amx_int8", "amx_fp16"),
}
# By type, those that its products run on, the fastest first.
_PREFERRED = {
    "float32": ("avx512", "avx2"),
    "bfloat16": ("amx", "avx512_bf16", "avx512", "avx2"),
    "float16": ("amx_fp16", "avx512_fp16", "avx512", "avx2"),
    "int8": ("amx", "avx512_vnni", "avx_vnni"),
}


def default_dtype() -> torch.dtype:
    """The type that "auto" stands for on a CPU: bfloat16 where its products are faster than float32's, else float32.

    On two cores of a Xeon with AMX they run at 7 times the rate of float32, on a Zen 4 with avx512_bf16 at twice.
    With AMX hidden, the same Xeon runs avx512_bf16 at 0.6 of the rate of float32; without both, bfloat16 is emulated.
    """
    has_amx = torch.cpu.get_capabilities().get("amx_tile")
    return torch.bfloat16 if runs("amx" if has_amx else "avx512_bf16") else torch.float32


def int8_runs() -> bool:
    """Whether products of uint8 by int8 run on instructions for them, which sum in int32.

    Without these, oneDNN adds pairs of products in 16 bits, which saturate: the results are wrong.
    """
    return any(map(runs, _PREFERRED["int8"]))


def int8_obstacle() -> str | None:
    """What keeps `int8_runs` from being true, in words; None where nothing does."""
    if int8_runs():
        return None
    if not torch.backends.mkldnn.is_available():
        return "this torch was built without oneDNN"
    hidden = any(map(_has, _PREFERRED["int8"]))
    return f"it needs amx, avx512_vnni or avx_vnni, which {f'{limit()} hides' if hidden else 'this processor lacks'}"


def instructions(dtype: str) -> str:
    """The instructions that products in a type ("int8", too) run on; their sums' last bits may depend on them."""
    running = (name for name in _PREFERRED[dtype] if runs(name))
    return next(running, torch.backends.cpu.get_cpu_capability().lower())


def runs(name: str) -> bool:
    """Whether oneDNN uses these instructions: "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx", ..."""
    allowed = _ALLOWED.get(_limit()[1])
    return torch.backends.mkldnn.is_available() and (allowed is None or name in allowed) and _has(name)


def limit() -> str | None:
    """The environment variable that hides instructions from oneDNN and its value, such as "ONEDNN_MAX_CPU_ISA=AVX2"."""
    variable, value = _limit()
    return f"{variable}={os.environ[variable]}" if value in _ALLOWED else None


def _limit() -> tuple[str, str]:
    """Variable and lower-case value, both empty where none is set. A value that oneDNN does not know hides nothing."""
    return next(((name, os.environ[name].lower()) for name in _VARIABLES if os.environ.get(name)), ("", ""))


def _has(name: str) -> bool:
    """Whether the processor has the instructions, and the system lets a process use them."""
    processor = torch.cpu.get_capabilities()
    if not all(processor.get(feature) for feature in _FEATURES.get(name, (name,))):
        return False
    # Linux gives a process AMX's tiles when it asks for them, as oneDNN does; a sandbox may refuse.
    return not name.startswith("amx") or torch.cpu._init_amx()
