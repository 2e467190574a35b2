"""The first step: a small model against float64, its bits in several packings, and rows of cuBLAS's products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from benchmarks.gpu.device import Device
from benchmarks.gpu.linear import exact, matrices
from benchmarks.gpu.oracle import Oracle
from benchmarks.gpu.report import Section, Table
from benchmarks.gpu.session import Session
from benchmarks.gpu.sizes import LLAMA, QWEN
from benchmarks.gpu.targets import Measured
from benchmarks.gpu.texts import workload
from benchmarks.random_model import RandomSource, random_checkpoint
from benchmarks.workloads import JudgePrompt
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.engine import Engine

SHAPES = (QWEN, LLAMA)
LAYERS, VOCABULARY, PAIRS, LABELS = 2, 300, 3, 16
# Prompts are half as long as real ones: about 220 tokens.
TEXT_DIVISOR = 2
# Error of the engine over that of plain PyTorch in the same dtype, root mean squares of log-probabilities in nats.
ALLOWED_RATIO = 2.0
FLOAT32_NATS = 1e-5
# A block's rows move by so many places, and others become their neighbours.
SHIFTS = (1, 37)


def run(session: Session) -> Section:
    """All three checks; a failing one is a target that is missed, not a step that failed."""
    section = Section([Table("Small models against float64", ["model", "error", "of plain PyTorch", "allowed"])])
    packings = Table("Bits", ["what", "compared", "different"])
    for shape in SHAPES:
        config = small(session.sizes.shapes[shape])
        _small_model(session, shape, config, section, packings)
    for what, compared, different in row_differences(session):
        packings.add(what, f"{compared:,}", f"{different:,}")
        section.measured.append(Measured("bits", what, float(different)))
        section.data[what] = different
    section.tables.append(packings)
    return section


def small(config: ModelConfig) -> ModelConfig:
    """The shape of a model with two layers, one token in three hundred, and the heads of the smaller models."""
    heads = min(config.num_heads, 16)
    return replace(
        config,
        vocab_size=min(config.vocab_size, VOCABULARY),
        hidden_size=min(config.hidden_size, 1024),
        intermediate_size=min(config.intermediate_size, 3072),
        num_layers=LAYERS,
        num_heads=heads,
        num_kv_heads=min(config.num_kv_heads, heads // 2),
    )


def judged(config: ModelConfig, divisor: int) -> list[JudgePrompt]:
    """Prompts of several pairs with more labels than a judge has: more figures to compare."""
    prompts = workload("2", PAIRS, config.vocab_size, divisor).prompts
    labels = [[token] for token in range(1, 1 + LABELS)]
    return [replace(prompt, labels=labels) for prompt in prompts]


def _small_model(session: Session, shape: str, config: ModelConfig, section: Section, packings: Table) -> None:
    device = session.device
    prompts = judged(config, max(TEXT_DIVISOR, session.sizes.text_divisor))
    ids, labels = [prompt.ids for prompt in prompts], [prompt.labels for prompt in prompts]
    checkpoint = random_checkpoint(shape, config, device.torch_device, device.dtype)
    engine = Engine(checkpoint, device=str(device.torch_device), dtype=device.dtype_name)
    together = engine.score(ids, labels).logprob
    source = RandomSource(config, device.torch_device, device.dtype)
    exactly, plain = (Oracle(config, source, dtype).score(prompts) for dtype in (torch.float64, device.dtype))
    error, usual = (_root_mean_square(found - exactly) for found in (together.astype(np.float64), plain))
    allowed = max(ALLOWED_RATIO * usual, FLOAT32_NATS)
    section.tables[0].add(shape, f"{error:.2g} nats", f"{usual:.2g}", f"{allowed:.2g}")
    section.measured.append(Measured("smoke", f"small {shape}", error / allowed))
    section.data[shape] = {"error_nats": error, "allowed_nats": allowed}
    for packing, found in _packings(engine, ids, labels):
        different = int((found.view(np.int32) != together.view(np.int32)).sum())
        packings.add(f"small {shape}, {packing}", f"{together.size:,}", f"{different:,}")
        section.measured.append(Measured("bits", f"small {shape}, {packing}", float(different)))
        section.data[f"{shape}, {packing}"] = different


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _packings(engine: Engine, ids: list[list[int]], labels: list[list[list[int]]]) -> Iterator[tuple[str, np.ndarray]]:
    """The same log-probabilities as one call over everything gives, in its order."""
    yield "one by one", np.concatenate([engine.score([i], [x]).logprob for i, x in zip(ids, labels, strict=True)])
    yield "reversed", np.ascontiguousarray(engine.score(ids[::-1], labels[::-1]).logprob[::-1])
    yield "no prefix cache", engine.score(ids, labels, prefix_cache=False).logprob
    default, engine.batch_tokens = engine.batch_tokens, max(map(len, ids)) + LABELS
    yield "small batches", engine.score(ids, labels).logprob
    engine.batch_tokens = default


def row_differences(session: Session) -> Iterator[tuple[str, int, int]]:
    """By shape, layer and block: rows compared, and rows whose bits depend on their place or on other rows."""
    device = session.device
    for shape in SHAPES:
        config = session.sizes.shapes[shape]
        layout = device.ops.plan_layout(
            device.torch_device, device.dtype, config.hidden_size, config.group_size, config.head_dim
        )
        blocks = sorted({layout.row_block, layout.final_row_block, layout.step_block})
        for name, (out, columns) in matrices(config).items():
            packed = device.ops.pack_linear(device.random(out, columns))
            different = {block: _moved_rows(device, packed, block, columns) for block in blocks}
            told = ", ".join(f"{block:,}" for block in blocks)
            rows = len(SHIFTS) * sum(blocks) + sum(block // 2 for block in blocks)
            yield f"rows of {shape} {name} in blocks of {told}", rows, sum(different.values())
            device.release()


def _moved_rows(device: Device, packed: object, block: int, columns: int) -> int:
    """Rows of a full block that get other bits elsewhere in it, or among other rows."""
    ops = device.ops
    x = device.random(block, columns)
    with torch.no_grad(), exact(ops):
        expected = ops.linear(x, packed)
        different = 0
        for shift in SHIFTS:
            found = ops.linear(x.roll(shift, 0), packed).roll(-shift, 0)
            different += int((found != expected).any(-1).sum())
        others = device.random(block, columns)
        others[::2] = x[::2]
        found = ops.linear(others, packed)
    return different + int((found[::2] != expected[::2]).any(-1).sum())
