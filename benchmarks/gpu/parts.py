"""Where the device's time goes in an end-to-end run, and how much of it the device waits."""

from __future__ import annotations

from functools import partial

from benchmarks.gpu import trace
from benchmarks.gpu.host import host_clock
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.scoring import calls_of, sized, stream
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured

SLOWEST = 14
NAME_CHARACTERS = 90


def run(session: Session, shape: str, name: str) -> Section:
    """One run by the clock, then the same under the profiler, whose cost on the host would otherwise count as idle."""
    device, engine = session.device, session.models.engine(shape)
    job = sized(session, shape, name)
    calls = calls_of(job, engine.batch_tokens)
    stream(engine, calls)  # compiles what is left to compile
    with host_clock() as clock:
        wall = device.wall(partial(stream, engine, calls))
    found = trace.timeline(device, partial(stream, engine, calls))
    busy = trace.busy_seconds(found)
    seconds = trace.part_seconds(found)
    idle = 1 - busy / wall
    window = max(interval.end for interval in found) - found[0].start
    table = Table(f"{shape}, workload {name}: {number(wall)} s in {len(calls)} calls", ["part", "seconds", "share"])
    for part, taken in seconds.items():
        table.add(part, number(taken), percent(taken / wall))
    table.add("idle", number(wall - busy), percent(idle))
    kernels = Table("Most time went on", ["kernel", "part", "calls", "seconds", "share of the busy time"])
    for kernel, count, taken in trace.slowest(found, SLOWEST):
        cells = (f"`{kernel[:NAME_CHARACTERS]}`", trace.part_of(kernel), f"{count:,}", number(taken))
        kernels.add(*cells, percent(taken / busy))
    lines = [
        f"idle is the clock's time without a profiler, less the union of all kernels' times; between the first and the "
        f"last kernel of the profiled run it was {percent(1 - busy / window)}",
        f"the host planned for {number(clock.seconds)} s, {percent(clock.seconds / wall)} of the time, "
        "on a GPU while it runs earlier batches",
    ]
    lines += [f"{name} is no longer there, its time is not counted" for name in clock.missing]
    data = {"wall": wall, "busy": busy, "idle": idle, "host_planning": clock.seconds, "parts": seconds}
    return Section(
        [table, kernels], lines, data, measured=[Measured("idle", f"{shape}, workload {name}, whole stream", idle)]
    )


def save_trace(session: Session, shape: str, name: str, most_bytes: int) -> Section:
    """A trace of one batch with the host's side, for Chrome or Perfetto."""
    device, engine = session.device, session.models.engine(shape)
    ids, labels = calls_of(sized(session, shape, name), engine.batch_tokens)[0]
    engine.score(ids, labels)
    found = trace.record(device, partial(engine.score, ids, labels), with_host=True)
    path = session.report.directory / "trace.json.gz"
    size = trace.write_gzip(found, path, most_bytes)
    kernels = trace.intervals(device, found)
    return Section(
        lines=[f"{path.name}: {len(ids)} prompts, {len(kernels):,} kernels and copies, {size / 1e6:.1f} MB"],
        data={"kernels": len(kernels), "bytes": size},
    )
