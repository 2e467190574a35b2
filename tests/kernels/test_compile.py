"""Every kernel compiles for sm_80 and sm_90 without a GPU, with the oldest and the newest Triton.

No spills, shared memory that fits, tensor cores in use and not serialised, K/V blocks in flight.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from benchmarks.kernels import compile_report
from benchmarks.kernels.machine_code import Compiled, blocks_in_flight, opcodes
from preftree.kernels import launch
from tests.processes import ROOT, printed, run_python

HEAD_SIZES = (64, 80, 96, 128, 256)
# The Makefile puts it there.
OLDEST_TRITON = Path(sys.prefix) / "triton-3.6.0"
SOUND = Compiled(
    name="tree_attention",
    arch=90,
    dtype="bf16",
    head_size=128,
    num_warps=8,
    num_stages=3,
    registers=181,
    spills=0,
    shared=131072,
    hgmma=12,
    hmma=0,
    groups=2,
    serialised="",
    copies=24,
    in_flight=1,
)


def run_compiled(*arguments: str, cache: Path, triton: Path | None = None) -> str:
    """What Python prints with these arguments, in a process that does not interpret."""
    if triton:
        assert (triton / "triton").is_dir(), f"no triton in {triton}; set it up with: make {triton}/.ready"
    imports = (triton, ROOT) if triton else (ROOT,)
    return printed(*arguments, imports=imports, own={"TRITON_INTERPRET": None, "TRITON_CACHE_DIR": str(cache)})


@dataclass(frozen=True)
class Selection:
    """What a report compiles. triton: a directory, None for the environment's."""

    head_sizes: tuple[int, ...]
    match: str
    triton: Path | None = None

    @property
    def arguments(self) -> list[str]:
        chosen = ["--head-sizes", *map(str, self.head_sizes), "--match", self.match]
        return [*chosen, "--triton", str(self.triton)] if self.triton else chosen


# Attention with nothing and with everything, and one of each other kernel.
QUICK = Selection(
    (128,),
    r"tree_attention, (tiles of \d+|single tokens)(, window, (softcap|sinks))? \(sm_\d+, bf16"
    r"|tree_attention, tiles of \d+ \(sm_\d+, fp32"
    r"|label_head of (4096, \S+|2304, capped, split) \(sm_\d+, bf16"
    r"|(rms|layer)_norm of 4096|rotate, normed|store_q?kv, normed \(|glu "
    r"|experts of 2048, \S+ \(sm_\d+, bf16"
    r"|fp8_(product|norm of 4096 |gated, silu|rows|experts of 2048)",
)
# Triton 3.6 has serialised attention of every head size, and let 256 spill.
QUICK_OLDEST = Selection(
    (128, 256),
    r"tree_attention, (tiles of \d+|single tokens)(, window, softcap)? \(sm_90, bf16, 128"
    r"|tree_attention, tiles of 128, window \(sm_90, bf16, 256|fp8_product of \d+ \(sm_90"
    r"|experts of 2048, (gated|linear) \(sm_90, bf16",
    OLDEST_TRITON,
)


def compiled(selection: Selection, folder: Path) -> dict[str, Any]:
    written = folder / "report.json"
    command = ["-m", "benchmarks.kernels.compile_report", "--json", str(written), *selection.arguments]
    run_compiled(*command, cache=folder / "cache")
    found: dict[str, Any] = json.loads(written.read_text())
    return found


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(QUICK, id="quick"),
        pytest.param(Selection(HEAD_SIZES, ""), id="all", marks=pytest.mark.soak),
        pytest.param(Selection(HEAD_SIZES, "", OLDEST_TRITON), id="all with the oldest", marks=pytest.mark.soak),
    ],
)
def selection(request: pytest.FixtureRequest) -> Selection:
    chosen: Selection = request.param
    return chosen


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, selection: Selection) -> list[dict[str, Any]]:
    written = compiled(selection, tmp_path_factory.mktemp("compile"))
    assert (written["triton"] == "3.6.0") == (selection.triton is not None)
    kernels: list[dict[str, Any]] = written["kernels"]
    return kernels


def assert_compiled_well(kernel: dict[str, Any]) -> None:
    """The conditions once more, on the numbers themselves, so that a report that checks nothing is noticed."""
    assert kernel["spills"] == 0, kernel
    assert kernel["shared"] <= {80: 101376, 89: 101376, 90: 232448}[kernel["arch"]], kernel
    assert 0 < kernel["registers"] <= 255, kernel
    assert kernel["problems"] == [], kernel


def assert_feeds_tensor_cores(kernel: dict[str, Any]) -> None:
    """Warp-group products on sm_90, warp products on sm_80 and for single tokens, and operands that arrive while
    another block is used."""
    is_low = kernel["arch"] < 90 or "single tokens" in kernel["name"]
    assert kernel["hmma" if is_low else "hgmma"] > 0, kernel
    assert kernel["serialised"] == "", kernel
    assert kernel["groups"] <= kernel["hgmma"] // 2, kernel
    assert kernel["copies"] > 0, kernel
    assert kernel["in_flight"] >= 1, kernel


def test_every_kernel_compiles_well(report: list[dict[str, Any]]) -> None:
    for kernel in report:
        assert_compiled_well(kernel)


def test_products_feed_tensor_cores(report: list[dict[str, Any]]) -> None:
    """Those of attention, label head and experts."""
    heavy = [one for one in report if re.search("tree_attention|split|^experts of .*(gated|linear)", one["name"])]
    assert len({one["name"].partition(" ")[0] for one in heavy}) == 3
    heavy = [one for one in heavy if one["dtype"] == "bf16"]
    assert {one["arch"] for one in heavy} == {80, 90}
    for kernel in heavy:
        assert_feeds_tensor_cores(kernel)


def test_products_of_fp8_feed_tensor_cores(report: list[dict[str, Any]]) -> None:
    """Catches levels that become 16 bits before they are multiplied, and a wait within a block of inputs."""
    products = [one for one in report if re.match("fp8_(product|experts)", one["name"])]
    assert {(one["name"].partition(" ")[0], one["arch"]) for one in products} == {
        (name, arch) for name in ("fp8_product", "fp8_experts") for arch in (89, 90)
    }
    for kernel in products:
        assert_feeds_tensor_cores(kernel)


def test_the_oldest_triton_compiles_products_well(tmp_path: Path) -> None:
    written = compiled(QUICK_OLDEST, tmp_path)
    assert written["triton"] == "3.6.0"
    assert len(written["kernels"]) == 11
    for kernel in written["kernels"]:
        assert_compiled_well(kernel)
        assert_feeds_tensor_cores(kernel)


def test_two_loops_are_serialised(tmp_path: Path) -> None:
    """The inverse: the kernel that attention once was, which the oldest Triton compiles to code that waits."""
    code = """
        import torch
        from benchmarks.kernels.cases import attention_case
        from benchmarks.kernels.machine_code import compile_case
        from preftree.kernels import attention, launch
        from tests.kernels import two_loop_attention
        attention.tree_attention_kernel = two_loop_attention.tree_attention_kernel
        settings = launch.attention_settings(90, 128, 2, tokens=16, group=4)
        for problem in compile_case(attention_case(90, 128, torch.bfloat16, settings)).problems:
            print(problem)
    """
    problems = run_compiled("-c", dedent(code), cache=tmp_path, triton=OLDEST_TRITON).splitlines()
    assert problems == [
        "has serialised wgmma instructions (C7515)",
        "waits for all its copies at the head of a loop: nothing is prefetched",
    ]


@pytest.mark.parametrize("name", ["rotate", "store_kv", "store_qkv"])
@pytest.mark.parametrize("arch", [80, 90])
def test_every_head_size_is_in_the_report(
    report: list[dict[str, Any]], selection: Selection, name: str, arch: int
) -> None:
    mine = [kernel for kernel in report if kernel["name"].startswith(name) and kernel["arch"] == arch]
    assert {kernel["head_size"] for kernel in mine} == {*selection.head_sizes}
    assert {kernel["dtype"] for kernel in mine} == {"bf16"}


def test_every_launch_of_attention_is_in_the_report(report: list[dict[str, Any]], selection: Selection) -> None:
    quick = selection is QUICK
    endings = ["", ", window, softcap", ", window, sinks", *([] if quick else [", window", ", softcap"])]
    expected = {
        (f"tree_attention, {tiles}{ending}", arch, dtype, size)
        for arch, (dtype, itemsize) in product((80, 90), (("bf16", 2), ("fp32", 4)))
        for size in selection.head_sizes
        for tiles in tiles_of(arch, size, itemsize)
        for ending in (endings[:1] if quick and dtype == "fp32" else endings)
    }
    found = [tuple(kernel[field] for field in ("name", "arch", "dtype", "head_size")) for kernel in report]
    found = [kernel for kernel in found if kernel[0].startswith("tree_attention")]
    assert len(found) == len(expected)
    assert {*found} == expected


def test_tiles_of_all_heights_sum_alike(report: list[dict[str, Any]]) -> None:
    """Catches rows that several warps share in one height and not in the other: their sums end in another order."""
    found: dict[tuple[Any, ...], set[tuple[int, int]]] = {}
    for kernel in report:
        is_attention = kernel["name"].startswith("tree_attention") and kernel["dtype"] == "bf16"
        if is_attention and len(launch.tile_shapes(kernel["arch"], kernel["head_size"], 2).heights) > 1:
            ending = kernel["name"].partition(", tiles of ")[2].partition(",")[2]
            of_heights = found.setdefault((kernel["arch"], kernel["head_size"], ending), set())
            of_heights.add((kernel["row_warps"], kernel["hmma"]))
    assert found
    assert all(len(kinds) == 1 and next(iter(kinds))[0] == 1 for kinds in found.values()), found


def tiles_of(arch: int, size: int, itemsize: int) -> list[str]:
    found = [f"tiles of {settings.block_m}" for settings in launch.tile_shapes(arch, size, itemsize).all_settings]
    return [*found, "single tokens"] if itemsize == 2 and (arch, size) in launch.SINGLE_TOKENS else found


def test_every_operation_is_in_the_report(report: list[dict[str, Any]]) -> None:
    names = {kernel["name"].partition(" ")[0].rstrip(",") for kernel in report}
    assert names == {
        "rms_norm",
        "add_rms_norm",
        "layer_norm",
        "add_layer_norm",
        "rotate",
        "store_kv",
        "store_qkv",
        "tree_attention",
        "swiglu",
        "geglu",
        "clamped_swiglu",
        "experts",
        "label_head",
        "fp8_product",
        "fp8_experts",
        "fp8_norm",
        "fp8_gated",
        "fp8_rows",
    }


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (replace(SOUND, spills=8), "spills 8 bytes"),
        (replace(SOUND, shared=227 * 1024 + 1), "shared memory of 232448"),
        (replace(SOUND, arch=80, hgmma=0, groups=0, hmma=128, shared=99 * 1024 + 1), "shared memory of 101376"),
        (replace(SOUND, hgmma=0, groups=0, hmma=128), "tensor-core"),
        (replace(SOUND, name="label_head of 4096, split", hgmma=0, groups=0), "tensor-core"),
        (replace(SOUND, name="experts of 2048, linear", hgmma=0, groups=0), "tensor-core"),
        (replace(SOUND, name="tree_attention, single tokens", hgmma=0, groups=0, hmma=0), "tensor-core"),
        (replace(SOUND, serialised="C7515"), "serialised wgmma instructions (C7515)"),
        (replace(SOUND, groups=12), "serialised wgmma instructions (12 waits for 12 instructions)"),
        (replace(SOUND, in_flight=0), "nothing is prefetched"),
        (replace(SOUND, in_flight=None), "nothing is prefetched"),
    ],
)
def test_the_report_notices(broken: Compiled, problem: str) -> None:
    assert not SOUND.problems
    assert [problem in found for found in broken.problems] == [True]


def test_instructions_are_counted() -> None:
    assembly = """
        /*0120*/              @!P0 LDGSTS.E.BYPASS.128 [R1+0x10], [R2.64] ;
        /*0130*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], RZ ;   // HMMA in a comment
        /*0140*/             @!UPT UTMALDG.2D [UR4], [UR6] ;
        /*0148*/                   QGMMA.64x64x32.F32.E4M3.E4M3 R24, gdesc[UR8], RZ ;
        /*0150*/                   STL.64 [R1+0x8], R2 ;
    """
    assert opcodes(assembly) == {"LDGSTS": 1, "HGMMA": 1, "UTMALDG": 1, "QGMMA": 1, "STL": 1}


def test_blocks_in_flight_are_those_of_the_innermost_loop() -> None:
    """The loop outside drains the pipeline, and so does the code after it."""
    outer, inner = "  %a = scf.for %i = %x to %y {\n", "    %b = scf.for %j = %x to %y {\n"
    fill = "    ttg.async_commit_group tokens %t\n    ttg.async_commit_group tokens %t\n"
    wait = "      %w = ttg.async_wait %t, %u {num = 4 : i32} loc(#loc1)\n"
    body = wait + "      scf.if %m {\n      }\n" + 2 * "      %t = ttg.async_commit_group tokens %c\n"
    drain = "    ttg.async_wait {num = 0 : i32}\n"
    assert blocks_in_flight(outer + fill + inner + body + "    }\n" + drain + "  }\n") == 2
    assert blocks_in_flight(inner + body.replace("num = 4", "num = 0") + "    }\n" + drain) == 0
    assert blocks_in_flight(inner + "      scf.yield %b\n    }\n") is None


def test_the_report_refuses_the_interpreter() -> None:
    result = run_python("-m", "benchmarks.kernels.compile_report", own={"TRITON_INTERPRET": "1"})
    assert result.returncode == 2
    assert "unset it" in result.stderr


def test_the_report_refuses_a_directory_without_triton(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_report.main(["--triton", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"compile_report: no triton in {tmp_path}; set it up with: make .venv/triton-3.6.0/.ready"


def test_the_report_refuses_a_broken_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compile_report.main(["--match", "["])
    assert "'[' is no regular expression" in capsys.readouterr().err


def test_one_variant_serves_batches_of_all_sizes(tmp_path: Path) -> None:
    """A kernel that knew the number of rows would be compiled anew in the middle of a run, and might sum otherwise."""
    counts = json.loads(run_compiled("-m", "tests.kernels.variants", cache=tmp_path))
    assert counts.pop("norms of several sizes")["rms_norm_kernel"] > 1
    # A gate and what follows it are one kernel.
    of_mixture = {"expert_product_kernel": 2, "combine_experts_kernel": 1}
    assert counts.pop("mixture") == of_mixture
    assert counts.pop("fp8_mixture") == of_mixture | {"fp8_rows_kernel": 1}
    assert sum(map(len, counts.values())) == 16
    assert {count for kernels in counts.values() for count in kernels.values()} == {1}, counts


def test_tuning_skips_what_does_not_compile_or_spills(tmp_path: Path) -> None:
    code = """
        from functools import partial
        from benchmarks.kernels.tune import _attention, problem_of
        from preftree.kernels.launch import AttentionSettings
        for settings in ((128, 32, 3, 2), (16, 16, 1, 1), (64, 32, 1, 1)):
            print(problem_of(partial(_attention, 80, 64), AttentionSettings(*settings)))
    """
    broken, sound, spilling = run_compiled("-c", dedent(code), cache=tmp_path).splitlines()
    assert broken.startswith("does not compile: ")
    assert sound == "None"
    assert spilling.startswith("spills ")
