"""Compile every kernel for GPUs that are not here, and read from the machine code whether it came out well.

    python -m benchmarks.kernels.compile_report [--triton DIR] [--head-sizes N ...] [--match REGEX] [--jobs N]
                                                [--json FILE]

Exit code 1 if a kernel spills registers, needs more shared memory than the architecture has, lacks tensor-core
instructions where it must have them, has them serialised, or prefetches nothing in a pipelined loop.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from preftree.kernels.launch import HEAD_SIZES

if TYPE_CHECKING:
    from benchmarks.kernels.machine_code import Compiled

COLUMNS = {
    "name": "kernel",
    "arch": "arch",
    "dtype": "dtype",
    "head_size": "head",
    "num_warps": "warps",
    "num_stages": "stages",
    "registers": "regs",
    "spills": "spill B",
    "shared": "shared B",
    "hgmma": "HGMMA",
    "groups": "groups",
    "serialised": "serialised",
    "hmma": "HMMA",
    "copies": "async",
    "in_flight": "in flight",
}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    refusal = _use_triton(arguments.triton)
    if refusal:
        print(f"compile_report: {refusal}", file=sys.stderr)
        return 2
    kernels = compile_all(arguments.jobs, tuple(arguments.head_sizes), arguments.match)
    if not kernels:
        print(f"compile_report: no kernel matches {arguments.match.pattern!r}", file=sys.stderr)
        return 2
    print(table(kernels))
    if arguments.json:
        objects = [asdict(one) | {"problems": one.problems} for one in kernels]
        arguments.json.write_text(json.dumps({"triton": _version(), "kernels": objects}, indent=1) + "\n")
    failures = [f"FAILED: {one} {problem}" for one in kernels for problem in one.problems]
    print(*failures, f"triton {_version()}: {len(kernels)} kernels, {len(failures)} problems", sep="\n")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    about = "directory of another Triton; `make test` sets up .venv/triton-3.6.0 (default: the environment's)"
    parser.add_argument("--triton", type=Path, metavar="DIR", help=about)
    about = "of attention and rotary embedding (default: all)"
    parser.add_argument(
        "--head-sizes", type=int, nargs="+", choices=HEAD_SIZES, default=HEAD_SIZES, metavar="N", help=about
    )
    about = 'only kernels whose description, like "tree_attention, tiles of 64, window (sm_90, bf16, 128)", has a match'
    parser.add_argument("--match", type=_pattern, default=re.compile(""), metavar="REGEX", help=about)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes that compile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write Triton's version and every kernel to FILE")
    return parser


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def _use_triton(folder: Path | None) -> str | None:
    """Put Triton of `folder` in place of the environment's, before anything imports it. Returns why it cannot be."""
    if folder is not None:
        if not (folder / "triton" / "__init__.py").is_file():
            return f"no triton in {folder}; set it up with: make .venv/triton-3.6.0/.ready"
        assert "triton" not in sys.modules
        sys.path.insert(0, str(folder.resolve()))
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; name the directory of one with --triton DIR"
    import triton

    if triton.knobs.runtime.interpret:
        return "TRITON_INTERPRET is set, so nothing would be compiled; unset it"
    return None


def _version() -> str:
    import triton

    return str(triton.__version__)


def compile_all(jobs: int, head_sizes: tuple[int, ...], match: re.Pattern[str]) -> list[Compiled]:
    """The kernels that `match` finds, sorted by name."""
    # Only now, as these import Triton. Processes that are forked find its modules and the list of cases in place.
    from benchmarks.kernels.cases import cases

    chosen = [number for number, case in enumerate(cases(head_sizes)) if match.search(str(case))]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        kernels = list(pool.map(partial(_compile_numbered, head_sizes), chosen))
    return sorted(kernels, key=lambda one: (one.name, one.dtype, one.arch, one.head_size or 0))


def _compile_numbered(head_sizes: tuple[int, ...], number: int) -> Compiled:
    """Compiled functions cannot be sent to another process, their place in the list can."""
    from benchmarks.kernels.cases import cases
    from benchmarks.kernels.machine_code import compile_case

    return compile_case(cases(head_sizes)[number])


def table(kernels: Sequence[Compiled]) -> str:
    cells = [[getattr(one, field) for field in COLUMNS] for one in kernels]
    rows = [list(COLUMNS.values()), *(["" if cell is None else str(cell) for cell in row] for row in cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    )


if __name__ == "__main__":
    sys.exit(main())
