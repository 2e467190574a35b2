"""Decode steps: tokens/s, and the share of the rate at which weights and K/V could be read."""

from __future__ import annotations

from benchmarks.continuations import decode_with_engine, step_rate
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Session
from benchmarks.gpu.sizes import LLAMA
from benchmarks.gpu.targets import Measured
from benchmarks.gpu.texts import workload

# Sequences; the target is for one of them.
BATCHES = (1, 16, 64, 128)
WANTED_BATCH = 64


def run(session: Session, shape: str, tokens: int) -> Section:
    """Continuations of `tokens` tokens after a judge's prompts."""
    engine, sizes = session.models.engine(shape), session.sizes
    most = max(BATCHES)
    prompts = workload("2", most // 2, sizes.shapes[shape].vocab_size, sizes.text_divisor).ids
    header = ["sequences", "tokens on a path", "tokens/s", "tokens/s at the memory's limit", "share"]
    section = Section([Table(f"{shape}, {tokens} tokens each", header)])
    decode_with_engine(engine, prompts[:2], 2)  # compiles and captures
    for size in BATCHES:
        rate = step_rate(engine, prompts[:size], tokens, session.ceilings.copy)
        share = percent(rate.share_of_limit)
        section.tables[0].add(size, number(rate.path), number(rate.tokens_per_second), number(rate.limit), share)
        section.data[str(size)] = {"tokens_per_second": rate.tokens_per_second, "share_of_limit": rate.share_of_limit}
        if shape == LLAMA and size == WANTED_BATCH:
            limit = rate.share_of_limit
            section.measured.append(Measured("decode", f"{shape}, {size} sequences", limit, limit))
    section.lines.append(
        "The limit counts each sequence's path and the weights, read once a step at the copy bandwidth. Sequences that "
        "end early lower the rate, as their places stay empty."
    )
    return section
