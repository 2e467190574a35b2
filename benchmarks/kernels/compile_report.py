"""Compile every kernel for GPUs that are not here, and read from the machine code whether it came out well.

    python -m benchmarks.kernels.compile_report [--json FILE] [--jobs N] [--head-sizes N ...]

Exit code 1 if a kernel spills registers, needs more shared memory than the architecture has, or lacks warp-group
matrix instructions where it must have them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.kernels.cases import Case, cases
from kernels.launch import HEAD_SIZES

# What one block may have (CUDA programming guide, technical specifications per compute capability).
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
COLUMNS = (
    "kernel",
    "arch",
    "dtype",
    "head",
    "warps",
    "stages",
    "regs",
    "spill B",
    "shared B",
    "HGMMA",
    "HMMA",
    "async",
)


@dataclass(frozen=True)
class Compiled:
    """One kernel's machine code. spills: bytes of local memory and stack a thread; shared: bytes a block.

    hgmma, hmma: tensor-core instructions of a warp group and of a warp. copies: asynchronous, global to shared memory.
    """

    name: str
    arch: int
    dtype: str
    head_size: int | None
    num_warps: int
    num_stages: int
    registers: int
    spills: int
    shared: int
    hgmma: int
    hmma: int
    copies: int

    @property
    def uses_tensor_cores(self) -> bool:
        """Attention and the matrix product of the label head, where the hardware has units for the dtype."""
        return self.dtype == "bf16" and (self.name.startswith("tree_attention") or self.name.endswith(", split"))

    @property
    def problems(self) -> list[str]:
        found = []
        if self.spills:
            found.append(f"spills {self.spills} bytes a thread")
        if self.shared > SHARED_LIMIT[self.arch]:
            found.append(f"needs {self.shared} bytes of shared memory of {SHARED_LIMIT[self.arch]}")
        if self.uses_tensor_cores and not (self.hgmma if self.arch >= 90 else self.hmma):
            found.append("has no tensor-core instructions of its architecture")
        return found


def compile_case(case: Case) -> Compiled:
    variant = case.variant
    source = ASTSource(
        fn=variant.fn, signature=variant.signature, constexprs=variant.constexprs, attrs=variant.attributes
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", case.arch, 32), options=variant.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
        instructions = _opcodes(_tool("nvdisasm", "--print-code", file.name))
    resources = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return Compiled(
        name=case.name,
        arch=case.arch,
        dtype=case.dtype,
        head_size=case.head_size,
        num_warps=variant.options["num_warps"],
        num_stages=variant.options["num_stages"],
        registers=resources["REG"],
        spills=resources["STACK"] + resources["LOCAL"],
        shared=kernel.metadata.shared,
        hgmma=instructions["HGMMA"],
        hmma=instructions["HMMA"],
        copies=instructions["LDGSTS"] + instructions["UTMALDG"],
    )


def _tool(name: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / name, *arguments], check=True, capture_output=True, text=True).stdout


def _opcodes(assembly: str) -> Counter[str]:
    """How often each instruction occurs, modifiers left off: `@!P0 LDGSTS.E.128 [R1], ...;` counts as LDGSTS."""
    lines = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)", assembly, re.MULTILINE)
    return Counter(lines)


def _compile_numbered(head_sizes: Sequence[int], number: int) -> Compiled:
    """Compiled functions cannot be sent to another process, their place in the list can."""
    return compile_case(cases(head_sizes)[number])


def compile_all(jobs: int, head_sizes: Sequence[int]) -> list[Compiled]:
    numbers = range(len(cases(head_sizes)))
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(partial(_compile_numbered, head_sizes), numbers))


def table(kernels: list[Compiled]) -> str:
    rows = [COLUMNS, *(tuple("" if cell is None else str(cell) for cell in asdict(one).values()) for one in kernels)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one object a kernel to FILE")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="processes that compile")
    about = "of attention and rotary embedding (default: all)"
    parser.add_argument(
        "--head-sizes", type=int, nargs="+", choices=HEAD_SIZES, default=HEAD_SIZES, metavar="N", help=about
    )
    arguments = parser.parse_args()
    if triton.knobs.runtime.interpret:
        print("compile_report: TRITON_INTERPRET is set, so nothing would be compiled; unset it", file=sys.stderr)
        return 2
    kernels = sorted(
        compile_all(arguments.jobs, arguments.head_sizes),
        key=lambda one: (one.name, one.dtype, one.arch, one.head_size or 0),
    )
    print(table(kernels))
    if arguments.json:
        arguments.json.write_text(
            json.dumps([asdict(one) | {"problems": one.problems} for one in kernels], indent=1) + "\n"
        )
    failures = [
        f"{one.name} (sm_{one.arch}, {one.dtype}, {one.head_size}) {p}" for one in kernels for p in one.problems
    ]
    print(*(f"FAILED: {line}" for line in failures), f"{len(kernels)} kernels, {len(failures)} problems", sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
