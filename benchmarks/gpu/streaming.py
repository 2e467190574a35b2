"""Streamed layers against resident ones: how much of the speed is left where a model is copied in every batch."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.scoring import sized
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured
from benchmarks.random_model import random_checkpoint
from preftree.engine.engine import Engine

ROUNDS = 3


def run(session: Session, shape: str, name: str) -> Section:
    """Both engines in turns, in one call each; bits are compared, too."""
    device, resident = session.device, session.models.engine(shape)
    job = sized(session, shape, name)
    checkpoint = random_checkpoint(shape, session.sizes.shapes[shape], device.torch_device, device.dtype)
    where: dict[str, Any] = {"device": str(device.torch_device), "dtype": device.dtype_name}
    with Engine(checkpoint, **where, batch_tokens=resident.batch_tokens, stream_layers="always") as streamed:
        engines = {"resident": resident, "streamed": streamed}
        found = {how: engine.score(job.ids, job.labels) for how, engine in engines.items()}  # the second one is cold
        seconds: dict[str, list[float]] = {how: [] for how in engines}
        for _ in range(ROUNDS):
            for how, engine in engines.items():
                seconds[how].append(device.wall(partial(engine.score, job.ids, job.labels)))
        memory = streamed.target.memory
    medians = {how: statistics.median(each) for how, each in seconds.items()}
    share = medians["resident"] / medians["streamed"]
    config = session.sizes.shapes[shape]
    upload = memory.streamed_bytes(config) * found["streamed"].batches / medians["streamed"]
    table = Table(f"{shape}, workload {name}, {job.num_pairs} pairs", ["", "value"])
    for how, median in medians.items():
        table.add(f"{how}: pairs/s", f"{number(job.num_pairs / median)} ({', '.join(map(number, seconds[how]))} s)")
    table.add("speed of resident layers that is left", percent(share))
    rows = f"{resident.batch_tokens:,}; {memory.hiding_rows(config):,}"
    table.add("rows a batch at most; rows that are assumed to hide the copy", rows)
    table.add(
        "copied", f"{number(upload / 1e9)} GB/s; pinned memory's rate {number(session.ceilings.upload / 1e9)} GB/s"
    )
    changed = int(np.sum(found["resident"].logprob != found["streamed"].logprob))
    on = f"{shape}, {name} prompts a pair"
    measured = [Measured("streamed", on, share), Measured("bits", f"streamed, {on}", changed)]
    return Section([table], measured=measured, data={"seconds": seconds, "share": share, "changed": changed})
