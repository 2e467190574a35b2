"""The machine: what it is, and the rates of matrix products that nothing on it can beat."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.products import activations, products
from preftree.engine.config.model_config import ModelConfig
from preftree.kernels import cpu

MATRIX_SIZE = 2048
LAYER_ROWS = (cpu.ROW_BLOCK, 256, 512, 1024, 2048)
REPEATS = 5
_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512_f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
_VERSIONED = ("preftree", "torch", "numpy", "transformers", "tokenizers")


@dataclass(frozen=True)
class Rates:
    """FLOP/s of matrix products in one type.

    Attributes:
        matrix: a 2048^3 `torch.mm` in float32; in bfloat16 and int8 the packed oneDNN call, which is faster.
        layer: the best library call on the model's widest layer.
        layer_call: which call that was.
    """

    matrix: float
    layer: float
    layer_call: str


class Roofline:
    """Measures `Rates` as often as asked, on operands made once."""

    def __init__(self, config: ModelConfig, dtype: str = "float32") -> None:
        """The widest layer is gate and up of the MLP: [hidden] -> [2 * intermediate]. dtype: see `products`."""
        generator = torch.Generator().manual_seed(0)

        def matrix(rows: int, columns: int) -> torch.Tensor:
            return torch.rand(rows, columns, generator=generator) - 0.5

        square = products(matrix(MATRIX_SIZE, MATRIX_SIZE).T, dtype)
        self._square = square["torch.mm"] if dtype == "float32" else next(iter(square.values()))
        self._left = activations(matrix(MATRIX_SIZE, MATRIX_SIZE), dtype)
        weight = matrix(2 * config.intermediate_size, config.hidden_size)
        self._layer_flops = 2 * weight.numel()
        self._layer = products(weight, dtype)
        self._inputs = [activations(matrix(rows, config.hidden_size), dtype) for rows in LAYER_ROWS]

    @torch.inference_mode()
    def measure(self) -> Rates:
        """About a second. Medians of several calls; the layer's rate is the best of its calls' medians."""
        square = 2 * MATRIX_SIZE**3 / _median_seconds(self._square, self._left)
        layer = {
            f"{name}, {len(x)} rows": len(x) * self._layer_flops / _median_seconds(product, x)
            for x in self._inputs
            for name, product in self._layer.items()
        }
        best = max(layer, key=layer.__getitem__)
        return Rates(matrix=square, layer=layer[best], layer_call=best)


@dataclass(frozen=True)
class Machine:
    """What a number must be read with.

    Attributes:
        cpu: name of the processor.
        cpus: logical ones that this process may use.
        instructions: sets of vector and matrix instructions that the processor has, of those that matter here.
        isa_limit: the environment's ONEDNN_MAX_CPU_ISA, which hides some of them from oneDNN.
        torch_threads: threads of a product.
        python: version.
        versions: of packages.
        commit: of this checkout.
    """

    cpu: str
    cpus: int
    instructions: tuple[str, ...]
    isa_limit: str | None
    torch_threads: int
    python: str
    versions: dict[str, str]
    commit: str

    @classmethod
    def find(cls) -> Machine:
        return cls(
            cpu=_cpu_name(),
            cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            instructions=_instructions(),
            isa_limit=os.environ.get("ONEDNN_MAX_CPU_ISA"),
            torch_threads=torch.get_num_threads(),
            python=platform.python_version(),
            versions={name: found for name in _VERSIONED if (found := _version(name))},
            commit=_commit(),
        )

    def record(self) -> dict[str, object]:
        return asdict(self)


def _median_seconds(call: Callable[..., object], *arguments: object) -> float:
    call(*arguments)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call(*arguments)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _instructions() -> tuple[str, ...]:
    found = torch.cpu.get_capabilities()
    return tuple(name for name in _INSTRUCTIONS if found.get(name))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    """The checkout's commit, with "+changes" when files differ from it."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
