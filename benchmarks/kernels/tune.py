"""Measure other launch settings on this machine's GPU and print a table to paste into the kernels.

    python -m benchmarks.kernels.tune [--minutes 8] [--head-sizes 64,128] [--jobs N]

Tree attention for every head size in bfloat16, and the label head. A candidate must compile without spills, come as
close to float64 as plain PyTorch, and give a row the same bits in tiles of every height. Nothing is tuned while
labelling: the table is source code, and whoever changes it changes the last bits of every label.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from functools import partial
from typing import TypeVar

import torch
import triton

from benchmarks.kernels.candidates import (
    Bench,
    attention_candidates,
    choose,
    head_candidates,
    head_text,
    report,
    table_text,
)
from benchmarks.kernels.cases import Case, attention_case, normaliser_case
from benchmarks.kernels.machine_code import compile_case
from benchmarks.kernels.tune_benches import AttentionBench, HeadBench
from preftree.kernels import launch
from preftree.kernels.label_head import SETTINGS, HeadSettings
from preftree.kernels.launch import AttentionSettings, TileShapes

DTYPE = torch.bfloat16
# Of the time for one head size; the rest is for measuring.
COMPILING = 0.6
# A100s have more, but their table serves the smaller cards, too.
SHARED = {80: 99 * 1024, 90: 227 * 1024}

S = TypeVar("S", AttentionSettings, HeadSettings)
C = TypeVar("C", TileShapes, HeadSettings)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    refusal = _refusal()
    if refusal:
        print(f"tune: {refusal}", file=sys.stderr)
        return 2
    # Processes of their own from the start: a copy of one that has a CUDA context might hang.
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        tables, head = tune(pool, arguments.head_sizes, time.monotonic() + 60 * arguments.minutes)
        pool.shutdown(cancel_futures=True)
    device = torch.cuda.get_device_name()
    print(f"# kernels/launch.py; measured on {device} with triton {triton.__version__}")
    print(table_text(tables))
    print("# kernels/label_head.py")
    print(head_text(head))
    return 0


def tune(
    pool: ProcessPoolExecutor, sizes: Sequence[int], deadline: float
) -> tuple[dict[int, dict[int, TileShapes]], HeadSettings]:
    """TENSOR_CORES with the entries of this GPU measured for `sizes`, and settings of the label head."""
    device = torch.device("cuda")
    table = launch.table_of(launch.capability_of(device))
    tables = {key: dict(entries) for key, entries in launch.TENSOR_CORES.items()}
    for place, size in enumerate(sizes):
        ends = _share(deadline, len(sizes) + 1 - place)
        shapes = attention_candidates(table, size)
        settings = list(dict.fromkeys(one for candidate in shapes for one in candidate.all_settings))
        compiled = compile_settings(pool, partial(_attention, table, size), settings, _compile_ends(ends))
        bench = AttentionBench(device, DTYPE, size, compiled, _timed)
        tables[table][size] = _tuned(f"head size {size}", shapes, bench, ends)
    candidates = head_candidates(SETTINGS[DTYPE])
    heads = compile_settings(pool, partial(_head, table), candidates, _compile_ends(deadline))
    return tables, _tuned("label head", candidates, HeadBench(device, DTYPE, heads, _timed), deadline)


def _parser() -> argparse.ArgumentParser:
    def sizes(text: str) -> list[int]:
        chosen = [int(part) for part in text.split(",")]
        if not set(chosen) <= set(launch.HEAD_SIZES):
            raise argparse.ArgumentTypeError(f"known head sizes are {', '.join(map(str, launch.HEAD_SIZES))}")
        return chosen

    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels.tune", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8, metavar="N", help="ends after about this long (8)")
    parser.add_argument(
        "--head-sizes", type=sizes, default=list(launch.HEAD_SIZES), metavar="N,N", help="others stay as they are"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes that compile")
    return parser


def _refusal() -> str | None:
    """Why nothing can be measured here, in one line."""
    if not torch.cuda.is_available():
        return "there is no CUDA device to measure on"
    if triton.knobs.runtime.interpret:
        return "TRITON_INTERPRET is set, so nothing would be compiled; unset it"
    capability = launch.capability_of(torch.device("cuda"))
    if launch.borrows_hopper(capability):
        return f"kernels/launch.py has no table of its own yet for compute capability {capability / 10}"
    return None


def _attention(table: int, size: int, settings: AttentionSettings) -> Case:
    return attention_case(table, size, DTYPE, settings)


def _head(table: int, settings: HeadSettings) -> Case:
    return normaliser_case(table, settings)


def problem_of(make_case: Callable[[S], Case], settings: S) -> str | None:
    """What is wrong with the machine code of a kernel with these settings; None where nothing is."""
    try:
        case = make_case(settings)
        compiled = compile_case(case)
    except Exception as error:  # Triton, MLIR, LLVM and ptxas each have their own
        lines = str(error).strip().splitlines()
        return f"does not compile: {lines[0][:100] if lines else type(error).__name__}"
    found = compiled.problems
    if compiled.shared > SHARED[case.arch]:
        found.append(f"needs {compiled.shared} bytes of shared memory of {SHARED[case.arch]}")
    return found[0] if found else None


def compile_settings(
    pool: ProcessPoolExecutor, make_case: Callable[[S], Case], settings: Sequence[S], ends: float
) -> dict[S, str | None]:
    """`problem_of` of every setting that there is time for until `ends`. Triton's cache keeps the machine code."""
    waiting = {pool.submit(problem_of, make_case, one): one for one in settings}
    done, late = wait(waiting, timeout=max(0.0, ends - time.monotonic()))
    for future in late:
        future.cancel()
    return {waiting[future]: future.result() for future in done}


def _tuned(title: str, candidates: Sequence[C], bench: Bench[C], ends: float) -> C:
    """The choice, with notes on how it came about."""
    choice = choose(candidates, bench, lambda: time.monotonic() < ends)
    for line in report(title, candidates[0], choice):
        print(line, file=sys.stderr)
    return candidates[0] if choice.chosen is None else choice.chosen


def _timed(call: Callable[[], object]) -> float:
    """Median seconds, with a cold L2 cache every time."""
    return float(triton.testing.do_bench(call, warmup=20, rep=60, return_mode="median")) / 1e3


def _share(deadline: float, parts: int) -> float:
    """When the next of `parts` equal parts of the time that is left ends."""
    now = time.monotonic()
    return now + (deadline - now) / parts


def _compile_ends(ends: float) -> float:
    now = time.monotonic()
    return now + COMPILING * (ends - now)


if __name__ == "__main__":
    sys.exit(main())
