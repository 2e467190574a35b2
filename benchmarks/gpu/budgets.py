"""The engine at several batch budgets, so that the default can be chosen by measurement."""

from __future__ import annotations

from functools import partial

from benchmarks.gpu.report import Section, Table, number
from benchmarks.gpu.scoring import calls_of, sized, stream
from benchmarks.gpu.session import Session

# Of a timed run elsewhere: there is one for every budget here.
SHARE = 0.4
ROUNDS = 2


def run(session: Session, shape: str, name: str) -> Section:
    """Pairs/s by rows of a batch."""
    device, engine = session.device, session.models.engine(shape)
    job = sized(session, shape, name, SHARE)
    table = Table(f"{shape}, workload {name}, {job.num_pairs} pairs", ["rows a batch", "seconds", "pairs/s", "peak GB"])
    section = Section([table])
    default = engine.batch_tokens
    try:
        for budget in (*session.sizes.throughput_budgets, default):
            engine.batch_tokens = budget
            calls = calls_of(job, budget)
            device.release()
            device.reset_peak()
            taken = min(device.wall(partial(stream, engine, calls)) for _ in range(ROUNDS))
            peak = (device.peak_bytes() - session.models.resident_bytes) / 1e9
            suffix = " (default)" if budget == default else ""
            table.add(f"{budget:,}{suffix}", number(taken), number(job.num_pairs / taken), f"{peak:.2f}")
            section.data[str(budget)] = {"seconds": taken, "peak_gb": peak}
    finally:
        engine.batch_tokens = default
    return section
