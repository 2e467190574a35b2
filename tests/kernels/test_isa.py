"""Which instructions run, and what "auto" and int8 follow from: by processor, and by oneDNN's environment variable."""

from __future__ import annotations

import pytest
import torch

from preftree.kernels import isa
from preftree.kernels.isa import default_dtype  # the fixture of all tests replaces it in its module

FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
HASWELL = ("avx2",)
ALDER_LAKE = ("avx2", "avx_vnni")
SKYLAKE = ("avx2", "avx512_f")
CASCADE_LAKE = (*SKYLAKE, "avx512_vnni")
ZEN_4 = (*CASCADE_LAKE, "avx512_bf16")
SAPPHIRE_RAPIDS = (*ZEN_4, "avx_vnni", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
GRANITE_RAPIDS = (*SAPPHIRE_RAPIDS, "amx_fp16")
ARM = ("neon", "bf16", "i8mm")


def use(
    monkeypatch: pytest.MonkeyPatch, processor: tuple[str, ...], limit: str | None = None, has_tiles: bool = True
) -> None:
    """A machine with this processor. has_tiles: whether the system lets processes use AMX."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(processor, True))
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: has_tiles)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)


@pytest.mark.parametrize(
    ("processor", "dtype", "products"),
    [
        (HASWELL, FLOAT32, ("avx2", "avx2", None)),
        (ALDER_LAKE, FLOAT32, ("avx2", "avx2", "avx_vnni")),
        (SKYLAKE, FLOAT32, ("avx512", "avx512", None)),
        (CASCADE_LAKE, FLOAT32, ("avx512", "avx512", "avx512_vnni")),
        (ZEN_4, BFLOAT16, ("avx512", "avx512_bf16", "avx512_vnni")),
        (SAPPHIRE_RAPIDS, BFLOAT16, ("avx512", "amx", "amx")),
        (ARM, FLOAT32, ("default", "default", None)),
    ],
)
def test_by_processor(
    monkeypatch: pytest.MonkeyPatch,
    processor: tuple[str, ...],
    dtype: torch.dtype,
    products: tuple[str, str, str | None],
) -> None:
    """Catches bfloat16 that is emulated, and int8 whose sums saturate."""
    use(monkeypatch, processor)
    float32, bfloat16, int8 = products
    assert default_dtype() == dtype
    assert (isa.instructions("float32"), isa.instructions("bfloat16")) == (float32, bfloat16)
    assert isa.int8_runs() == (int8 is not None)
    assert isa.instructions("int8") == (int8 or "default")


@pytest.mark.parametrize(
    ("limit", "dtype", "products"),
    [
        ("SSE41", FLOAT32, ("default", "default", None)),
        ("AVX2", FLOAT32, ("avx2", "avx2", None)),
        ("AVX2_VNNI", FLOAT32, ("avx2", "avx2", "avx_vnni")),
        ("AVX512_CORE", FLOAT32, ("avx512", "avx512", None)),
        ("AVX512_CORE_VNNI", FLOAT32, ("avx512", "avx512", "avx512_vnni")),
        ("AVX512_CORE_BF16", FLOAT32, ("avx512", "avx512_bf16", "avx512_vnni")),
        ("AVX512_CORE_FP16", FLOAT32, ("avx512", "avx512_bf16", "avx512_vnni")),
        ("avx10_1_512_amx", BFLOAT16, ("avx512", "amx", "amx")),
        ("AVX512_CORE_AMX", BFLOAT16, ("avx512", "amx", "amx")),
        ("DEFAULT", BFLOAT16, ("avx512", "amx", "amx")),
        ("AVX512_CORE_BF61", BFLOAT16, ("avx512", "amx", "amx")),
        ("", BFLOAT16, ("avx512", "amx", "amx")),
    ],
)
def test_by_environment(
    monkeypatch: pytest.MonkeyPatch, limit: str, dtype: torch.dtype, products: tuple[str, str, str | None]
) -> None:
    """An Intel processor whose AMX is hidden has avx512_bf16, at half the rate of float32."""
    use(monkeypatch, SAPPHIRE_RAPIDS, limit)
    float32, bfloat16, int8 = products
    assert default_dtype() == dtype
    assert (isa.instructions("float32"), isa.instructions("bfloat16")) == (float32, bfloat16)
    assert isa.int8_runs() == (int8 is not None)


def test_a_limit_hides_bfloat16_of_a_processor_without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ZEN_4, "AVX512_CORE_BF16")
    assert default_dtype() == BFLOAT16
    use(monkeypatch, ZEN_4, "AVX512_CORE_VNNI")
    assert default_dtype() == FLOAT32


def test_the_newer_name_of_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in oneDNN, an empty one does not count."""
    use(monkeypatch, SAPPHIRE_RAPIDS)
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "avx2")
    assert (isa.instructions("bfloat16"), isa.limit()) == ("avx2", "DNNL_MAX_CPU_ISA=avx2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert (isa.instructions("bfloat16"), isa.limit()) == ("avx512", "ONEDNN_MAX_CPU_ISA=AVX512_CORE")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")
    assert isa.instructions("bfloat16") == "avx2"


def test_a_sandbox_without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches AMX that the processor has and the system refuses: oneDNN does without it."""
    use(monkeypatch, SAPPHIRE_RAPIDS, has_tiles=False)
    assert (default_dtype(), isa.instructions("bfloat16")) == (FLOAT32, "avx512_bf16")
    assert isa.instructions("int8") == "avx512_vnni"


def test_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, SAPPHIRE_RAPIDS)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert (default_dtype(), isa.int8_obstacle()) == (FLOAT32, "this torch was built without oneDNN")


def test_half_precision_has_instructions_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for processor in (ZEN_4, SAPPHIRE_RAPIDS, GRANITE_RAPIDS):
        use(monkeypatch, processor)
        found.append(isa.instructions("float16"))
    assert found == ["avx512", "avx512_fp16", "amx_fp16"]


def test_what_keeps_int8_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, SAPPHIRE_RAPIDS, "AVX512_CORE")
    needs = "it needs amx, avx512_vnni or avx_vnni, which"
    assert isa.int8_obstacle() == f"{needs} ONEDNN_MAX_CPU_ISA=AVX512_CORE hides"
    use(monkeypatch, SKYLAKE, "AVX512_CORE")
    assert isa.int8_obstacle() == f"{needs} this processor lacks"
    use(monkeypatch, CASCADE_LAKE)
    assert isa.int8_obstacle() is None


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_products_of_bytes_are_exact_where_int8_runs() -> None:
    """On this machine; catches instructions that are said to run and do not: sums would saturate."""
    if not isa.int8_runs():
        pytest.skip(f"int8: {isa.int8_obstacle()}")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (64, 576), dtype=torch.int8, generator=generator)
    rows = torch.randint(0, 256, (128, 576), dtype=torch.uint8, generator=generator)
    packed = torch.ops.onednn.qlinear_prepack(weight, [128, 576])
    scales, zeros = torch.ones(64), torch.zeros(64, dtype=torch.int32)
    found = torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    assert torch.equal(found.double(), (rows.double() - 128) @ weight.double().T)
