"""What loading a model takes at its highest, in the size of its weights: python -m benchmarks.loading

Every case runs in a process of its own, which has opened the model and imported everything before; what counts is how
far the resident set size rises while the weights are read, converted and packed, pages of mapped files included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.arguments import ends_in_one_line
from benchmarks.memory import PeakMemory, in_own_process
from benchmarks.random_model import small_config, write_random_model
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.engine import Engine
from preftree.engine.gguf.embedded import PACKAGE
from preftree.engine.weights.names import num_parameters

TARGET = 1.3
SHARDS = 4
LAYERS, HIDDEN_SIZE = 12, 1536


@dataclass(frozen=True)
class Case:
    """stored: type of the file's tensors. working: dtype of the loaded ones. shards: files, 0 for a GGUF file."""

    stored: str
    working: str
    shards: int = 1

    @property
    def title(self) -> str:
        kind = "GGUF" if self.shards == 0 else "safetensors" if self.shards == 1 else f"{self.shards} safetensors"
        return f"{kind} {self.stored} as {self.working}"


@dataclass(frozen=True)
class Loaded:
    """weights_bytes: parameters in the working dtype. peak_bytes: highest rise. kept_bytes: what stays of it."""

    case: Case
    weights_bytes: int
    peak_bytes: int
    kept_bytes: int
    seconds: float

    @property
    def ratio(self) -> float:
        return self.peak_bytes / self.weights_bytes


CASES = (
    Case("float32", "float32"),
    Case("bfloat16", "float32"),
    Case("bfloat16", "bfloat16"),
    Case("float16", "bfloat16"),
    Case("bfloat16", "float32", SHARDS),
    Case("float32", "float32", SHARDS),
    Case("Q4_1", "float32", 0),
    Case("Q4_1", "bfloat16", 0),
)


def load(model: str, working: str) -> tuple[int, int, int, float]:
    """weights, peak and kept bytes, and seconds, of loading `model`. To be called in a process of its own."""
    checkpoint = open_checkpoint(model)
    with tempfile.TemporaryDirectory() as scratch:  # what is made once: kernels, threads, imports
        Engine.load(str(write_random_model(Path(scratch), small_config(1, 64))), device="cpu", dtype=working)
    with PeakMemory() as memory:
        start = time.perf_counter()
        engine = Engine(checkpoint, device="cpu", dtype=working)
        seconds = time.perf_counter() - start
        kept = memory.extra_now()
    return num_parameters(checkpoint.config) * engine.dtype.itemsize, memory.extra_bytes, kept, seconds


def write_model(directory: Path, case: Case, layers: int = LAYERS, hidden_size: int = HIDDEN_SIZE) -> Path:
    """A random model in the empty `directory`, stored as `case` says; the embedded GGUF file for GGUF."""
    if case.shards == 0:
        files = metadata.distribution(PACKAGE).files or ()
        return Path(str(next(file.locate() for file in files if file.name.endswith(".gguf"))))
    write_random_model(directory, small_config(layers, hidden_size))
    whole = directory / "model.safetensors"
    tensors = {name: tensor.to(getattr(torch, case.stored)) for name, tensor in load_file(whole).items()}
    whole.unlink()
    names = [f"model-{number}.safetensors" for number in range(case.shards)] if case.shards > 1 else [whole.name]
    placed = {name: names[number * len(names) // len(tensors)] for number, name in enumerate(tensors)}
    for file in names:
        save_file({name: tensors[name] for name, home in placed.items() if home == file}, str(directory / file))
    if len(names) > 1:
        index = directory / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": placed}), encoding="utf-8")
    return directory


def measure(case: Case, layers: int = LAYERS, hidden_size: int = HIDDEN_SIZE) -> Loaded:
    with tempfile.TemporaryDirectory() as scratch:
        model = write_model(Path(scratch), case, layers, hidden_size)
        weights, peak, kept, seconds = in_own_process(load, str(model), case.working)
    return Loaded(case, weights, peak, kept, seconds)


@ends_in_one_line("benchmarks.loading")
def main(argv: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__).parse_args(argv)
    print(f"{'case':<38} {'weights MB':>10} {'peak MB':>8} {'ratio':>6} {'kept MB':>8} {'seconds':>8}")
    results = []
    for case in CASES:
        loaded = measure(case)
        results.append(loaded)
        sizes = (f"{size / 1e6:,.0f}" for size in (loaded.weights_bytes, loaded.peak_bytes, loaded.kept_bytes))
        weights, peak, kept = sizes
        print(f"{case.title:<38} {weights:>10} {peak:>8} {loaded.ratio:>6.2f} {kept:>8} {loaded.seconds:>8.1f}")
    print(json.dumps([asdict(loaded) | {"ratio": round(loaded.ratio, 3)} for loaded in results]))
    return 0 if all(loaded.ratio <= TARGET for loaded in results) else 1


if __name__ == "__main__":
    sys.exit(main())
