"""fp8 against 16 bits: the products of a layer, and the engine end to end."""

from __future__ import annotations

import os
import statistics
from functools import partial
from unittest import mock

import torch

from benchmarks.gpu.linear import exact, matrices
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.scoring import ROUNDS, calls_of, sized, stream
from benchmarks.gpu.session import Session
from benchmarks.gpu.sizes import LLAMA
from benchmarks.gpu.targets import Measured
from benchmarks.peers.accuracy import accuracy
from preftree.engine.planning.trie import as_token_ids, unique_tokens
from preftree.kernels.quantized.fp8 import quantize_rows
from preftree.kernels.quantized.types import PRODUCTS, VARIABLE

# Attention's output is multiplied in 16 bits.
IN_FP8 = ("qkv", "gate_up", "down")


def products(session: Session, shape: str) -> Section:
    """A block of rows, quantised already, through each of the products; and whether a row's place decides its bits."""
    device, config = session.device, session.sizes.shapes[shape]
    group = config.num_heads // config.num_kv_heads
    layout = device.ops.plan_layout(device.torch_device, device.dtype, config.hidden_size, group, config.head_dim)
    rows = layout.row_block
    header = ["layer", device.dtype_name, *(f"fp8, {name}" for name in PRODUCTS)]
    table = Table(f"{shape}: TFLOP/s of a block of {rows:,} rows, and times those in {device.dtype_name}", header)
    section = Section([table])
    with exact(device.ops):
        for name in IN_FP8:
            out, columns = matrices(config)[name]
            weight, x = device.random(out, columns), device.random(rows, columns)
            plain = partial(device.ops.linear, x, device.ops.pack_linear(weight))
            seconds = device.time([plain], session.sizes.window).seconds
            cells, work = [number(2 * rows * out * columns / seconds / 1e12)], 2 * rows * out * columns
            packed = device.ops.pack_linear(weight, quantized="fp8")
            for product in PRODUCTS:
                with mock.patch.dict(os.environ, {VARIABLE: product}):
                    taken = device.time([partial(device.ops.linear, _quantised(session, x), packed)]).seconds
                    moved = _rows_that_differ(session, x, packed)
                cells.append(f"{number(work / taken / 1e12)} ({number(seconds / taken)})")
                section.data[f"{name}, {product}"] = {"seconds": taken, "seconds in 16 bits": seconds}
                if product == PRODUCTS[0]:
                    section.measured.append(Measured("bits", f"{shape}, {name} in fp8, rows moved", float(moved)))
            table.add(f"{name} [{out:,}, {columns:,}]", *cells)
            device.release()
    return section


def _quantised(session: Session, x: torch.Tensor) -> object:
    """As the norm before leaves it; a CPU's emulation quantises by itself."""
    return x if session.device.is_rehearsal else quantize_rows(x)


def _rows_that_differ(session: Session, x: torch.Tensor, packed: object) -> int:
    """Rows of a block whose bits are others one place further."""
    linear = session.device.ops.linear
    here, moved = linear(_quantised(session, x), packed), linear(_quantised(session, x.roll(1, 0)), packed)
    return int((here.roll(1, 0) != moved).any(1).sum())


def engine(session: Session, shape: str, name: str) -> Section:
    """The same calls in both types: rates, and how far the answers are apart. Weights are random: see the answers of a
    real model with `preftree doctor --accuracy`."""
    job = sized(session, shape, name)
    unique = unique_tokens([as_token_ids(prompt.ids) for prompt in job.prompts])
    table = Table(f"{shape}, workload {name}", ["type", "prompts/s", "unique tokens/s", "weights, GB"])
    section, answers = Section([table]), []
    for dtype in (session.device.dtype_name, "fp8"):
        judge = session.models.engine(shape, dtype)
        answers.append(judge.score(job.ids, job.labels).logprob)
        calls = calls_of(job, judge.batch_tokens)
        stream(judge, calls)
        seconds = statistics.median(session.device.wall(partial(stream, judge, calls)) for _ in range(ROUNDS))
        weights = number(session.models.weight_bytes / 1e9)
        table.add(dtype, number(len(job.prompts) / seconds), number(unique / seconds), weights)
        section.data[dtype] = {"seconds": seconds, "unique_tokens_per_second": unique / seconds}
    if shape == LLAMA:
        rate = section.data["fp8"]["unique_tokens_per_second"]
        section.measured.append(Measured("fp8", f"{shape}, workload {name}", rate))
    apart = accuracy(answers[1], answers[0], job.prompts)
    section.lines.append(
        f"margins are {number(apart.mean_margin_nats)} nats apart on average, {percent(apart.flipped_prompts)} of the "
        "verdicts flip, with random weights"
    )
    return section
