"""Compile what a run launches in parallel processes: every one launches some kernels, and Triton's cache keeps them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.continuations import decode_with_engine
from benchmarks.gpu import attention, elementwise
from benchmarks.gpu.device import Call, Device, Gpu, Rehearsal
from benchmarks.gpu.pool import run_all
from benchmarks.gpu.report import Section, Table, first_line
from benchmarks.gpu.session import Session
from benchmarks.gpu.sizes import FULL, LLAMA, QWEN, REHEARSAL, Sizes
from benchmarks.gpu.texts import workload
from benchmarks.random_model import random_checkpoint
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.engine import Engine

# Model and what of it.
Task = tuple[str, str]
SHAPES = (QWEN, LLAMA)
ENGINE_KINDS = ("scoring", "decoding")
# Memory that a process may need: its CUDA context, kernels, and one layer of an 8B model with both embeddings.
PROCESS_BYTES = 4 << 30
# Of the device's memory, for all processes together.
MEMORY_SHARE = 0.8
KV_BYTES = 256 << 20
ROWS = 2048
SECONDS = 45.0


def run(session: Session) -> Section:
    """Every task, in parallel processes on a GPU and one after the other in a rehearsal."""
    wanted, started = tasks(session.sizes), time.perf_counter()
    if session.device.is_rehearsal:
        results, problems = _in_turn(wanted)
    else:
        jobs = min(len(os.sched_getaffinity(0)), int(MEMORY_SHARE * session.device.total_bytes / PROCESS_BYTES))
        results, problems = run_all(launch, wanted, max(1, jobs), min(SECONDS, session.seconds_left))
    took = time.perf_counter() - started
    table = Table("", ["model", "kernels", "seconds"])
    for (shape, kind), seconds in results.items():
        table.add(shape, kind, f"{seconds:.1f}")
    for (shape, kind), problem in problems.items():
        table.add(shape, kind, problem)
    line = f"{len(results)} of {len(wanted)} launched in {took:.1f} s; they take {sum(results.values()):.0f} s in turn"
    data = {"launched": len(results), "problems": {", ".join(task): text for task, text in problems.items()}}
    return Section([table], [line], data | {"seconds": took})


def tasks(sizes: Sizes) -> list[Task]:
    """Single kernels first; the engine, which launches all of them, finds those compiled."""
    kinds = [*elementwise.cases(sizes.shapes[QWEN], 1, Rehearsal()), "label head", *attention.WORKLOADS]
    single = [(shape, kind) for shape in SHAPES for kind in kinds]
    return [*single, *((shape, kind) for shape in SHAPES for kind in ENGINE_KINDS)]


@torch.no_grad()
def launch(task: Task, is_rehearsal: bool = False) -> float:
    """Launch the kernels of one task once. Returns the seconds that it took, compiling included."""
    started = time.perf_counter()
    shape, kind = task
    device: Device = Rehearsal() if is_rehearsal else Gpu()
    sizes = REHEARSAL if is_rehearsal else FULL
    make = engine_call if kind in ENGINE_KINDS else kernel_call
    make(device, sizes, shape, kind)()
    device.synchronize()
    return time.perf_counter() - started


def _in_turn(wanted: list[Task]) -> tuple[dict[Task, float], dict[Task, str]]:
    results: dict[Task, float] = {}
    problems: dict[Task, str] = {}
    for task in wanted:
        try:
            results[task] = launch(task, is_rehearsal=True)
        except Exception as error:  # as a process of its own would survive it
            problems[task] = first_line(error)
    return results, problems


def kernel_call(device: Device, sizes: Sizes, shape: str, kind: str) -> Call:
    """A kernel of the model on inputs of its own."""
    config = sizes.shapes[shape]
    if kind == "label head":
        return _head_call(device, config)
    if kind in attention.WORKLOADS:
        return attention.tree_call(device, config, attention.plant(kind, max(sizes.paths), ROWS), finals=True)
    rows = min(ROWS, sizes.rows)
    made: Callable[[], Call] = elementwise.cases(config, rows, device)[kind].make
    return made()


def _head_call(device: Device, config: ModelConfig) -> Call:
    head, x = (
        device.ops.pack_head(device.random(config.vocab_size, config.hidden_size)),
        device.random(2, config.hidden_size),
    )
    places = torch.arange(2, device=device.torch_device)
    return lambda: device.ops.label_head(x, head, places, places)


def engine_call(device: Device, sizes: Sizes, shape: str, kind: str) -> Call:
    """An engine with the model's widths and two layers."""
    config = replace(sizes.shapes[shape], num_layers=2)
    checkpoint = random_checkpoint(shape, config, device.torch_device, device.dtype)
    # Decoding takes most of the free memory unless it is told otherwise, and other processes want some.
    engine = Engine(checkpoint, device=str(device.torch_device), dtype=device.dtype_name, kv_memory=KV_BYTES)
    job = workload("22" if kind == "scoring" else "2", 2, config.vocab_size, sizes.text_divisor)
    if kind == "decoding":
        return lambda: decode_with_engine(engine, job.ids, 2)
    return lambda: engine.score(job.ids, job.labels)
