"""What streamed layers cost on a CPU, and what they save: python -m benchmarks.streaming

For each model a process loads it both ways, alternates between them at the default batch, and gives the
ratio of medians; then a process for each way tells how much memory it takes while it scores. Of a streamed model that
is what the process itself has; pages of the layers' file that the system caches are not, and are dropped as others need
the memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.arguments import ends_in_one_line
from benchmarks.memory import PeakMemory, in_own_process
from benchmarks.random_model import small_config, write_random_model
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.engine import Engine
from preftree.engine.weights.names import num_parameters

LAYERS, HIDDEN_SIZE = 16, 1536
ROUNDS = 3
LARGEST_COST = 0.15


@dataclass(frozen=True)
class Streaming:
    """cost: additional seconds, as a share. resident_bytes, streamed_bytes: that loading and scoring take."""

    model: str
    dtype: str
    batch_tokens: int
    cost: float
    weight_bytes: int
    resident_bytes: int
    streamed_bytes: int


def prompts_for(rows: int) -> list[list[int]]:
    """Of about `rows` unique tokens."""
    return [[7 + number, *((number * place) % 251 for place in range(255))] for number in range(rows // 256)]


def seconds_of(model: str, dtype: str, rounds: int) -> tuple[list[float], list[float], int]:
    """Seconds of each round, resident and streamed, and tokens of a batch. To be called in a process of its own."""
    engines = [Engine.load(model, device="cpu", dtype=dtype, stream_layers=how) for how in ("never", "always")]
    rows = engines[0].batch_tokens
    prompts = prompts_for(rows)
    labels = [[[33], [34]]] * len(prompts)
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for engine, found in zip(engines, seconds, strict=True):
            start = time.perf_counter()
            engine.score(prompts, labels, prefix_cache=False)
            found.append(time.perf_counter() - start)
    return seconds[0], seconds[1], rows


def bytes_of(model: str, dtype: str, how: str) -> int:
    """The most that a process takes to load and score. To be called in a process of its own."""
    with PeakMemory() as memory:
        engine = Engine.load(model, device="cpu", dtype=dtype, stream_layers=how, batch_tokens=1024)
        engine.score(prompts_for(1024), [[[33], [34]]] * 4)
    return memory.extra_bytes


def measure(model: str, name: str, dtype: str, rounds: int = ROUNDS) -> Streaming:
    resident, streamed, rows = in_own_process(seconds_of, model, dtype, rounds)
    taken = [in_own_process(bytes_of, model, dtype, how) for how in ("never", "always")]
    weights = (4 if dtype == "float32" else 2) * num_parameters(open_checkpoint(model).config)
    cost = statistics.median(streamed) / statistics.median(resident) - 1
    return Streaming(name, dtype, rows, cost, weights, *taken)


@ends_in_one_line("benchmarks.streaming")
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each way (default: %(default)s)")
    rounds = parser.parse_args(argv).rounds
    print(
        f"{'model':<12} {'type':<9} {'batch':>6} {'cost':>6} {'weights MB':>10} {'resident MB':>11} {'streamed MB':>11}"
    )
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        random = str(write_random_model(Path(scratch), small_config(LAYERS, HIDDEN_SIZE)))
        for model, name, dtype in ((random, "random", "bfloat16"), ("embedded", "embedded", "float32")):
            found = measure(model, name, dtype, rounds)
            results.append(found)
            sizes = (found.weight_bytes, found.resident_bytes, found.streamed_bytes)
            weights, resident, streamed = (f"{size / 1e6:,.0f}" for size in sizes)
            row = f"{name:<12} {dtype:<9} {found.batch_tokens:>6} {found.cost:>6.1%} {weights:>10} {resident:>11}"
            print(f"{row} {streamed:>11}", flush=True)
    print(json.dumps([asdict(result) for result in results]))
    return 0 if all(result.cost <= LARGEST_COST for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
