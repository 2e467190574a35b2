"""Peak memory beyond the weights: grows with the batch budget, not with layers and not with the number of pairs.

    python -m benchmarks.memory

Every case runs in a process of its own, since freed memory does not always go back to the system. There a thread reads
the resident set size every 2 ms while pairs stream through the labelling loop, and what it was before (weights loaded,
libraries warmed up by one tiny prompt) is taken off.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from benchmarks.arguments import ends_in_one_line
from benchmarks.random_model import small_config, write_random_model
from benchmarks.workloads import TEMPLATE
from preftree.engine.engine import Engine
from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.engine.memory import give_back_freed
from preftree.engine.planning.trie import as_token_ids, common_prefix
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.pipeline import label_samples
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.types import Message, Pair

SAMPLE_SECONDS = 0.002
HIDDEN_SIZE = 256
FLOAT32_BYTES = 4
_Result = TypeVar("_Result")


class PeakMemory:
    """Context manager. extra_bytes: how far the resident set size rose above what it was on entry."""

    def __init__(self) -> None:
        try:
            import psutil
        except ImportError:
            raise InputError("measuring memory needs psutil: pip install 'preftree[dev]'") from None
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.extra_bytes = 0

    def __enter__(self) -> PeakMemory:
        # What was freed while the weights were read lies in the allocator's pool and would hide as much new memory.
        gc.collect()
        give_back_freed()
        self._before = self._resident()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._read()

    def extra_now(self) -> int:
        """How far the resident set size is above what it was on entry."""
        return self._resident() - self._before

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)

    def _read(self) -> None:
        self.extra_bytes = max(self.extra_bytes, self._resident() - self._before)

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self._read()


@dataclass(frozen=True)
class Case:
    """layers: of the model. pairs: in the input. batch_tokens: rows a forward pass may take.

    rationale_tokens, kv_memory: written before each label, and bytes for the K/V of that; 0 for labels alone.
    """

    layers: int
    pairs: int
    batch_tokens: int
    rationale_tokens: int = 0
    kv_memory: int = 0

    @property
    def method(self) -> Rlaif:
        reasoning = Sampling(max_new_tokens=self.rationale_tokens) if self.rationale_tokens else None
        return Rlaif(load_template(TEMPLATE), reasoning=reasoning)


@dataclass(frozen=True)
class Peak:
    """measured_bytes: highest resident set size above the weights. planned_bytes: what `Engine.plan` says, and
    `kv_memory`.

    cache_bytes: the part of both that is the prefix cache, K/V of every layer for what all prompts begin with.
    """

    case: Case
    measured_bytes: int
    planned_bytes: int
    cache_bytes: int


CASES = (
    Case(layers=4, pairs=24, batch_tokens=4096),
    Case(layers=16, pairs=24, batch_tokens=4096),
    Case(layers=4, pairs=240, batch_tokens=4096),
    Case(layers=4, pairs=24, batch_tokens=8192),
    Case(layers=4, pairs=24, batch_tokens=16_384),
    Case(layers=4, pairs=100, batch_tokens=4096, rationale_tokens=16, kv_memory=64_000_000),
    Case(layers=4, pairs=1000, batch_tokens=4096, rationale_tokens=16, kv_memory=64_000_000),
    Case(layers=4, pairs=100, batch_tokens=4096, rationale_tokens=16, kv_memory=256_000_000),
)


def in_own_process(action: Callable[..., _Result], *arguments: object) -> _Result:
    """Call the module-level function `action` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(action, *arguments).result()


def scoring_peak(
    model: str, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[Sequence[int]]], batch_tokens: int | None
) -> int:
    """Bytes above the weights while one `Engine.score` call runs. To be called in a process of its own."""
    engine = Engine.load(model, dtype="float32", batch_tokens=batch_tokens)
    _warm_up(engine)
    with PeakMemory() as memory:
        engine.score(prompts, labels)
    return memory.extra_bytes


def streaming_peak(model: str, case: Case) -> int:
    """Bytes above the weights while pairs stream through the labelling loop. To be called in a process of its own."""
    kv_memory = case.kv_memory or None
    scorer = Judge.load(model, dtype="float32", batch_tokens=case.batch_tokens, kv_memory=kv_memory)
    method = case.method
    # The first forward pass makes what is made once: kernels, thread pools. A batch of one short pair holds little.
    scorer.score([scorer.encode(request) for request in method.requests(_WARM_UP)])
    with PeakMemory() as memory:
        for labelled in label_samples(_pairs(case.pairs), method, scorer):
            assert labelled.label is not None, labelled.reason
    return memory.extra_bytes


def measure(case: Case, directory: Path) -> Peak:
    """Run `case` on a random model, which is written into the empty `directory`."""
    config = small_config(case.layers, HIDDEN_SIZE)
    write_random_model(directory, config)
    scorer = Judge.load(str(directory), dtype="float32", batch_tokens=case.batch_tokens, weights=False)
    encoded = [scorer.encode(request) for pair in _pairs(case.pairs) for request in case.method.requests(pair)]
    measured = in_own_process(streaming_peak, str(directory), case)
    plan = scorer.plan(encoded)
    ids = [item.ids for item in encoded]
    shared = common_prefix(as_token_ids(min(ids)), as_token_ids(max(ids))) if plan.batches > 1 else 0
    return Peak(
        case,
        measured,
        plan.peak_bytes + case.kv_memory,
        shared * config.num_layers * 2 * config.kv_size * FLOAT32_BYTES,
    )


@ends_in_one_line("benchmarks.memory")
def main(argv: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__).parse_args(argv)
    print(
        _row(
            "layers",
            "pairs",
            "batch tokens",
            "rationale tokens",
            "K/V MB",
            "measured MB",
            "planned MB",
            "of it prefix cache MB",
        )
    )
    peaks = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as scratch:
            peak = measure(case, Path(scratch))
        peaks.append(peak)
        measured = (case.kv_memory, peak.measured_bytes, peak.planned_bytes, peak.cache_bytes)
        sizes = (f"{size / 1e6:.1f}" for size in measured)
        print(_row(case.layers, case.pairs, f"{case.batch_tokens:,}", case.rationale_tokens, *sizes), flush=True)
    print(json.dumps([asdict(peak) for peak in peaks]))
    return 0


def _row(*cells: object) -> str:
    widths = (6, 6, 13, 16, 7, 12, 11, 22)
    return " ".join(f"{cell!s:>{width}}" for cell, width in zip(cells, widths, strict=True))


_WARM_UP = Pair("warm-up", (Message("user", "Which?"),), "this", "that")


def _pairs(count: int) -> Iterator[Pair]:
    """Pairs of about 1,000 unique tokens, all different, made one at a time."""
    for number in range(count):
        text = f"Pair {number}: " + "a text to be judged, of no meaning at all, " * 5
        yield Pair(str(number), (Message("user", text),), f"{number} first. {text}", f"{number} second. {text}")


def _warm_up(engine: Engine) -> None:
    engine.score([list(range(8))], [[[0]]])


if __name__ == "__main__":
    sys.exit(main())
