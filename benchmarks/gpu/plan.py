"""What a run does, most important things first. Seconds are guesses for an H200."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.gpu import (
    attention,
    bits,
    budgets,
    ceilings,
    decoding,
    elementwise,
    flex,
    head,
    linear,
    parts,
    rivals,
    scoring,
    suite,
)
from benchmarks.gpu.session import Step
from benchmarks.gpu.sizes import LLAMA, QWEN, SMOL, Sizes
from benchmarks.gpu.texts import OPTION_WORKLOADS
from benchmarks.peers import PEERS

TRACE_BYTES = 14_000_000
FLEX_SECONDS = 70.0


def steps(sizes: Sizes) -> list[Step]:
    """All steps in order."""
    return [
        Step("Tests that need a GPU", 20, suite.run, patience=3600),  # it watches its time itself
        Step(ceilings.TITLE, 5, ceilings.run),
        *_kernels(sizes, LLAMA, QWEN),
        *_options(QWEN),
        *_judging(QWEN, "22", seconds=6, with_bits=True),
        *_judging(LLAMA, "22", seconds=9, with_bits=True),
        *_judging(LLAMA, "2", seconds=9),
        Step(f"Decoding, {LLAMA}", 20, partial(decoding.run, shape=LLAMA, tokens=sizes.decoded)),
        Step("Trace of one batch", 10, partial(parts.save_trace, shape=LLAMA, name="22", most_bytes=TRACE_BYTES)),
        *_judging(QWEN, "2", seconds=6),
        *_kernels(sizes, SMOL),
        *_judging(SMOL, "22", seconds=6),
        *_judging(SMOL, "2", seconds=6),
        *(Step(f"Batch budgets, {shape}", 15, partial(budgets.run, shape=shape, name="22")) for shape in (QWEN, LLAMA)),
        Step("FlexAttention", FLEX_SECONDS, partial(flex.run, shape=LLAMA, seconds=FLEX_SECONDS)),
    ]


def _kernels(sizes: Sizes, *shapes: str) -> Iterator[Step]:
    for shape in shapes:
        yield Step(f"Element-wise kernels, {shape}", 4, partial(elementwise.run, shape=shape))
        yield Step(f"Label head, {shape}", 2, partial(head.run, shape=shape))
    for shape in shapes:
        for path in sizes.paths:
            yield Step(flex.attention_title(shape, path), 5, partial(attention.run, shape=shape, path=path))
    for shape in shapes:
        yield Step(f"Linear layers, {shape}", 5, partial(linear.run, shape=shape))


def _options(shape: str) -> Iterator[Step]:
    for name in OPTION_WORKLOADS:
        yield Step(f"Engine, {shape}, {name}", 16, partial(scoring.run, shape=shape, name=name))
        yield Step(f"Parts, {shape}, {name}", 8, partial(parts.run, shape=shape, name=name))


def _judging(shape: str, name: str, seconds: float, with_bits: bool = False) -> Iterator[Step]:
    """The engine on a judge's prompts, where its time goes, whether bits stay the same, and the peers."""
    about = f"{shape}, {name} prompts a pair"
    yield Step(f"Engine, {about}", 8 + seconds, partial(scoring.run, shape=shape, name=name))
    yield Step(f"Parts, {about}", 3 + seconds, partial(parts.run, shape=shape, name=name))
    if with_bits:
        yield Step(f"Same bits, {shape}", 3 + seconds, partial(bits.run, shape=shape, name=name))
    for peer in PEERS:
        action = partial(rivals.run, shape=shape, name=name, peer_name=peer)
        yield Step(f"Against transformers, {peer}, {about}", 8 + seconds, action)
