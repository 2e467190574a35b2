"""Every kernel compiles for sm_80 and sm_90 without a GPU: no spills, shared memory that fits, tensor cores in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from benchmarks.kernels.compile_report import SHARED_LIMIT, Compiled, _opcodes

ROOT = Path(__file__).parents[2]
HEAD_SIZES = (64, 80, 96, 128, 256)
SOUND = Compiled(
    "tree_attention", 90, "bf16", 128, 8, 3, registers=188, spills=0, shared=98560, hgmma=24, hmma=0, copies=38
)


def run_compiled(*arguments: str, cache: Path) -> str:
    """What Python prints with these arguments, in a process that does not interpret."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment | {"TRITON_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module", params=[(80, 256), pytest.param(HEAD_SIZES, marks=pytest.mark.soak)], ids=str)
def head_sizes(request: pytest.FixtureRequest) -> tuple[int, ...]:
    """No power of two, and the largest; or all."""
    sizes: tuple[int, ...] = request.param
    return sizes


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, head_sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("compile")
    command = ["-m", "benchmarks.kernels.compile_report", "--json", str(folder / "report.json"), "--head-sizes"]
    run_compiled(*command, *map(str, head_sizes), cache=folder / "cache")
    found: list[dict[str, Any]] = json.loads((folder / "report.json").read_text())
    return found


def test_every_kernel_compiles_well(report: list[dict[str, Any]]) -> None:
    """The conditions once more, on the numbers themselves, so that a report that checks nothing is noticed."""
    for kernel in report:
        assert kernel["spills"] == 0, kernel
        assert kernel["shared"] <= SHARED_LIMIT[kernel["arch"]], kernel
        assert 0 < kernel["registers"] <= 255, kernel
        assert kernel["problems"] == [], kernel


def test_attention_and_label_head_feed_tensor_cores(report: list[dict[str, Any]]) -> None:
    """Warp-group products on sm_90, warp products on sm_80, and operands that arrive by asynchronous copies."""
    heavy = [one for one in report if one["name"].startswith("tree_attention") or "split" in one["name"]]
    heavy = [one for one in heavy if one["dtype"] == "bf16"]
    assert {one["arch"] for one in heavy} == {80, 90}
    for kernel in heavy:
        assert kernel["hgmma" if kernel["arch"] == 90 else "hmma"] > 0, kernel
        assert kernel["copies"] > 0, kernel


@pytest.mark.parametrize("name", ["tree_attention", "rotate", "store_kv"])
@pytest.mark.parametrize("arch", [80, 90])
def test_every_head_size_is_in_the_report(
    report: list[dict[str, Any]], head_sizes: tuple[int, ...], name: str, arch: int
) -> None:
    mine = [kernel for kernel in report if kernel["name"].startswith(name) and kernel["arch"] == arch]
    for dtype in {kernel["dtype"] for kernel in mine}:
        sizes = {kernel["head_size"] for kernel in mine if kernel["dtype"] == dtype}
        windowed = {128} if (name, dtype) == ("tree_attention", "bf16") else set()
        assert sizes == {*head_sizes} | windowed
    assert {kernel["dtype"] for kernel in mine} == ({"bf16", "fp32"} if name == "tree_attention" else {"bf16"})


def test_every_operation_is_in_the_report(report: list[dict[str, Any]]) -> None:
    names = {kernel["name"].partition(" ")[0].rstrip(",") for kernel in report}
    assert names == {
        "rms_norm",
        "add_rms_norm",
        "rotate",
        "store_kv",
        "tree_attention",
        "swiglu",
        "geglu",
        "label_head",
    }


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (replace(SOUND, spills=8), "spills 8 bytes"),
        (replace(SOUND, shared=227 * 1024 + 1), "shared memory"),
        (replace(SOUND, arch=80, hgmma=0, hmma=128, shared=163 * 1024 + 1), "shared memory"),
        (replace(SOUND, hgmma=0, hmma=128), "tensor-core"),
        (replace(SOUND, name="label_head of 4096, split", hgmma=0), "tensor-core"),
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
        /*0150*/                   STL.64 [R1+0x8], R2 ;
    """
    assert _opcodes(assembly) == {"LDGSTS": 1, "HGMMA": 1, "UTMALDG": 1, "STL": 1}


def test_the_report_refuses_the_interpreter() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels.compile_report"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "unset it" in result.stderr


def test_one_variant_serves_batches_of_all_sizes(tmp_path: Path) -> None:
    """A kernel that knew the number of rows would be compiled anew in the middle of a run, and might sum otherwise."""
    counts = json.loads(run_compiled("-m", "tests.kernels.variants", cache=tmp_path))
    assert counts.pop("norms of several sizes")["rms_norm_kernel"] > 1
    assert sum(map(len, counts.values())) == 9
    assert {count for kernels in counts.values() for count in kernels.values()} == {1}, counts


def test_tuning_skips_what_does_not_compile_or_spills(tmp_path: Path) -> None:
    code = """
        from functools import partial
        from benchmarks.kernels.tune import _attention, problem_of
        from kernels.launch import AttentionSettings
        for settings in ((128, 32, 3, 2), (16, 16, 1, 1), (64, 32, 1, 1)):
            print(problem_of(partial(_attention, 80, 64), AttentionSettings(*settings)))
    """
    broken, sound, spilling = run_compiled("-c", dedent(code), cache=tmp_path).splitlines()
    assert broken.startswith("does not compile: ")
    assert sound == "None"
    assert spilling.startswith("spills ")
