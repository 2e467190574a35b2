"""What a run does, most important things first. Seconds are those of an H200, measured where one has run the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.gpu import (
    attention,
    bits,
    budgets,
    ceilings,
    decoding,
    divided,
    elementwise,
    experts,
    flex,
    fp8,
    head,
    linear,
    ncu,
    parts,
    rivals,
    scoring,
    smoke,
    streaming,
    suite,
    tuning,
    warm,
)
from benchmarks.gpu.session import Step
from benchmarks.gpu.sizes import LLAMA, QWEN, SMOL, Sizes
from benchmarks.gpu.texts import OPTION_WORKLOADS
from benchmarks.peers.transformers import PEERS

TRACE_BYTES = 14_000_000
FLEX_SECONDS = 70.0


def steps(sizes: Sizes) -> list[Step]:
    """All steps in order: those of a first call, then extra ones, which run where `--only` asks for them."""
    return [*_first_call(sizes), *_second_call(sizes)]


def chosen(found: Sequence[Step], only: Sequence[str]) -> list[Step]:
    """The steps of a call. only: names of groups, or texts in titles; none of them stands for a first call.

    Raises ValueError, one line, for a name that no step goes by.
    """
    if not only:
        return [step for step in found if not step.is_extra]
    for name in only:
        if not any(_is_meant(step, name) for step in found):
            groups = ", ".join(dict.fromkeys(step.group for step in found))
            raise ValueError(f"no step goes by --only {name!r}; groups are {groups}, or give a part of a step's title")
    # Shares of the ceilings are in nearly every step.
    return [step for step in found if step.title == ceilings.TITLE or any(_is_meant(step, name) for name in only)]


def _is_meant(step: Step, name: str) -> bool:
    return name == step.group or name.lower() in step.title.lower()


def _first_call(sizes: Sizes) -> Iterator[Step]:
    path = sizes.paths[len(sizes.paths) // 2]
    yield Step("Smoke test", 10, smoke.run, "smoke")
    yield Step("Compile kernels in parallel processes", 16, warm.run, "compile")
    yield Step(ceilings.TITLE, 5, ceilings.run, "ceilings")
    for name in OPTION_WORKLOADS:
        yield _engine(QWEN, name, 10)
    yield _engine(LLAMA, "22", 11)
    for shape in (LLAMA, QWEN):
        yield _attention(shape, path)
    yield _engine(QWEN, "22", 10)
    yield Step(f"Same bits, {QWEN}", 4, partial(bits.run, shape=QWEN, name="22"), "bits")
    yield Step(f"Same bits, {LLAMA}", 9, partial(bits.run, shape=LLAMA, name="22"), "bits")
    yield from _peers(LLAMA, "22", 13)
    yield _parts(QWEN, "options 120+180", 12)
    yield _parts(LLAMA, "22", 12)
    yield Step(f"Nsight Compute, attention, {LLAMA}", 12, partial(ncu.run, shape=LLAMA, path=path), "ncu")
    yield Step(
        "Trace of one batch", 10, partial(parts.save_trace, shape=LLAMA, name="22", most_bytes=TRACE_BYTES), "trace"
    )
    yield _engine(LLAMA, "2", 11)
    yield _parts(QWEN, "22", 12)
    yield _engine(QWEN, "2", 10)
    yield from _peers(QWEN, "22", 11)
    for shape in (QWEN, LLAMA):
        yield from _kernels(shape)


def _second_call(sizes: Sizes) -> Iterator[Step]:
    """Steps that run where they are asked for."""
    tests = Step("Tests that need a GPU", 60, suite.run, "tests", patience=3600)  # it watches its time itself
    decode = Step(f"Decoding, {LLAMA}", 20, partial(decoding.run, shape=LLAMA, tokens=sizes.decoded), "decode")
    two = Step(f"Two devices, {LLAMA}", 20, partial(divided.run, shape=LLAMA, name="22"), "devices")
    streamed = Step(f"Streamed layers, {LLAMA}", 30, partial(streaming.run, shape=LLAMA, name="22"), "stream")
    extra = [tests, decode, streamed, two]
    extra += [_attention(shape, path) for shape in (LLAMA, QWEN) for path in sizes.paths]
    extra += [_parts(QWEN, "options 270+30", 12), *_peers(QWEN, "2", 11), *_peers(LLAMA, "2", 13)]
    extra += [_engine(SMOL, "22", 10), _engine(SMOL, "2", 10), *_kernels(SMOL)]
    extra += [
        Step(f"Linear layers, {shape}", 5, partial(linear.run, shape=shape), "linear") for shape in (QWEN, LLAMA, SMOL)
    ]
    extra += [
        Step(f"Batch budgets, {shape}", 15, partial(budgets.run, shape=shape, name="22"), "budgets")
        for shape in (QWEN, LLAMA)
    ]
    extra.append(Step("Experts, Qwen3-30B-A3B", 10, experts.run, "experts"))
    for shape in (LLAMA, QWEN):
        extra.append(Step(f"Products in fp8, {shape}", 5, partial(fp8.products, shape=shape), "fp8"))
        extra.append(Step(f"Engine in fp8, {shape}", 20, partial(fp8.engine, shape=shape, name="22"), "fp8"))
    extra.append(Step("FlexAttention", FLEX_SECONDS, partial(flex.run, shape=LLAMA, seconds=FLEX_SECONDS), "flex"))
    extra.append(Step("Launch settings", 60, tuning.run, "tune", patience=3600))  # it watches its time itself
    taken = {step.title for step in _first_call(sizes)}
    for step in extra:
        if step.title not in taken:
            yield Step(step.title, step.seconds, step.action, step.group, is_extra=True, patience=step.patience)


def _engine(shape: str, name: str, seconds: float) -> Step:
    return Step(f"Engine, {_about(shape, name)}", seconds, partial(scoring.run, shape=shape, name=name), "engine")


def _parts(shape: str, name: str, seconds: float) -> Step:
    return Step(f"Parts, {_about(shape, name)}", seconds, partial(parts.run, shape=shape, name=name), "parts")


def _attention(shape: str, path: int) -> Step:
    return Step(flex.attention_title(shape, path), 7, partial(attention.run, shape=shape, path=path), "attention")


def _peers(shape: str, name: str, seconds: float) -> Iterator[Step]:
    for peer in PEERS:
        action = partial(rivals.run, shape=shape, name=name, peer_name=peer)
        yield Step(f"Against transformers, {peer}, {_about(shape, name)}", seconds, action, "peers")


def _kernels(shape: str) -> Iterator[Step]:
    yield Step(f"Element-wise kernels, {shape}", 4, partial(elementwise.run, shape=shape), "kernels")
    yield Step(f"Label head, {shape}", 2, partial(head.run, shape=shape), "kernels")


def _about(shape: str, name: str) -> str:
    return f"{shape}, {name}" if name in OPTION_WORKLOADS else f"{shape}, {name} prompts a pair"
