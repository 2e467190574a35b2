"""A kernel's machine code for one architecture, compiled without a GPU, and what is wrong with it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend

from benchmarks.kernels.cases import Case, described
from benchmarks.kernels.dry_launch import Variant

# What one block may have (CUDA programming guide, technical specifications per compute capability). Cards of 8.6 and
# 8.9 take the code of 8.0, which itself has 163 KiB.
SHARED_LIMIT = {80: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Compiled:
    """One kernel's machine code.

    Attributes:
        name: of the case.
        arch: compute capability, 80, 89 or 90.
        dtype: "bf16" or "fp32".
        head_size: of attention and rotary embedding.
        num_warps: warps of a program.
        num_stages: depth of the software pipeline that was asked for.
        registers: of a thread.
        spills: bytes of local memory and stack a thread.
        shared: bytes of shared memory a program.
        hgmma: tensor-core instructions of a warp group (wgmma), those of fp8 (QGMMA) among them.
        hmma: tensor-core instructions of a warp.
        groups: starts of a wgmma group, each of which ends in a wait.
        serialised: ptxas's diagnostics C75xx, "wgmma instructions are serialized", or "".
        copies: asynchronous copies from global to shared memory.
        in_flight: blocks that are being copied while a loop works on another; None for a kernel without a pipeline.
        row_warps: warps that a row of a product is spread over, at most; 1 without tensor cores.
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
    groups: int
    serialised: str
    copies: int
    in_flight: int | None
    row_warps: int = 1

    def __str__(self) -> str:
        return described(self.name, self.arch, self.dtype, self.head_size)

    @property
    def uses_tensor_cores(self) -> bool:
        """Attention and matrix products of label head, experts and fp8, where the hardware has units for the dtype."""
        multiplies = re.search(r"^tree_attention|^fp8_product|split$|gated$|linear$", self.name) is not None
        return self.dtype == "bf16" and multiplies

    @property
    def problems(self) -> list[str]:
        found = []
        if self.spills:
            found.append(f"spills {self.spills} bytes a thread")
        if self.shared > SHARED_LIMIT[self.arch]:
            found.append(f"needs {self.shared} bytes of shared memory of {SHARED_LIMIT[self.arch]}")
        # A tile of a single token is too low for a warp group.
        is_low = self.arch < 90 or "single tokens" in self.name
        if self.uses_tensor_cores and not (self.hmma if is_low else self.hgmma):
            found.append("has no tensor-core instructions of its architecture")
        # A group of sound code holds a whole product, which takes two instructions at the very least.
        if self.serialised or 2 * self.groups > self.hgmma:
            witness = self.serialised or f"{self.groups} waits for {self.hgmma} instructions"
            found.append(f"has serialised wgmma instructions ({witness})")
        if self.uses_tensor_cores and self.num_stages > 1 and not self.in_flight:
            found.append("waits for all its copies at the head of a loop: nothing is prefetched")
        return found


def compile_case(case: Case) -> Compiled:
    variant = case.variant
    kernel, messages = _assemble(variant, GPUTarget("cuda", case.arch, 32))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
        assembly = _tool("nvdisasm", "--print-code", file.name)
    resources = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    instructions = opcodes(assembly)
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
        hgmma=instructions["HGMMA"] + instructions["QGMMA"],
        hmma=instructions["HMMA"] + instructions["QMMA"],
        groups=len(re.findall(r"\bWARPGROUP\.ARRIVE\b", assembly)),
        serialised=" ".join(sorted(set(re.findall(r"\bC75\d\d\b", messages)))),
        copies=instructions["LDGSTS"] + instructions["UTMALDG"],
        in_flight=blocks_in_flight(kernel.asm["ttgir"]),
        row_warps=max(map(int, re.findall(r"mma<\{.*warpsPerCTA = \[\d+, (\d+)\]", kernel.asm["ttgir"])), default=1),
    )


def _tool(name: str, *arguments: str) -> str:
    return subprocess.run([TOOLS / name, *arguments], check=True, capture_output=True, text=True).stdout


def _assemble(variant: Variant, target: GPUTarget) -> tuple[Any, str]:
    """The kernel as Triton compiles it, and what its assembler says."""
    source = ASTSource(
        fn=variant.fn, signature=variant.signature, constexprs=variant.constexprs, attrs=variant.attributes
    )
    messages = StringIO()
    with triton.knobs.nvidia.scope(), redirect_stdout(messages):
        triton.knobs.nvidia.dump_ptxas_log = True
        kernel = triton.compile(source, target=target, options=variant.options)
        if not messages.getvalue():  # it was in Triton's cache, which keeps no messages
            backend = make_backend(target)
            backend.make_cubin(kernel.asm["ptx"], {}, backend.parse_options(variant.options), target.arch)
    return kernel, messages.getvalue()


def opcodes(assembly: str) -> Counter[str]:
    """How often each instruction occurs, modifiers left off: `@!P0 LDGSTS.E.128 [R1], ...;` counts as LDGSTS."""
    lines = re.findall(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)", assembly, re.MULTILINE)
    return Counter(lines)


def blocks_in_flight(ttgir: str) -> int | None:
    """Blocks still being copied when an iteration has what it needs, the fewest of all innermost loops that copy.

    A loop waits until at most `num` groups of copies are pending, and commits as many groups as an iteration reads.
    None where no innermost loop copies.
    """
    fewest = []
    for body in _innermost_loops(ttgir):
        waits = [int(num) for num in re.findall(r"ttg\.async_wait .*?\bnum = (\d+)", body)]
        commits = len(re.findall(r"ttg\.async_commit_group\b", body))
        if waits and commits:
            fewest.append(min(waits) // commits)
    return min(fewest, default=None)


def _innermost_loops(ttgir: str) -> list[str]:
    """Bodies of the loops that hold no other loop; a loop ends with a brace at its own indentation."""
    loops = re.findall(r"^( *)[^\n]*\bscf\.for\b[^\n]*\n((?:\1 [^\n]*\n)*)\1\}", ttgir, re.MULTILINE)
    bodies = [body for _, body in loops]
    return [inner for body in bodies for inner in (_innermost_loops(body) or [body])]
