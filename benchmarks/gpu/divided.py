"""A model divided by layers over two devices, against the same model on one: the same bits, and at which rate."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.gpu.device import Device
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.scoring import calls_of, sized, stream
from benchmarks.gpu.session import NotHereError, Session
from benchmarks.gpu.targets import Measured
from benchmarks.random_model import random_checkpoint
from preftree.engine.engine import Engine

DEVICES = 2


def run(session: Session, shape: str, name: str) -> Section:
    """A stream of calls on one device, then on two. Raises NotHereError where there is one."""
    devices = two_devices(session.device)
    alone, device = session.models.engine(shape), session.device
    calls = calls_of(sized(session, shape, name), alone.batch_tokens)
    checkpoint = random_checkpoint(shape, session.sizes.shapes[shape], device.torch_device, device.dtype)
    with Engine(checkpoint, devices=devices, dtype=device.dtype_name, batch_tokens=alone.batch_tokens) as divided:
        expected, found = (stream(engine, calls) for engine in (alone, divided))  # compiles what is left to compile
        taken = [device.wall(partial(stream, engine, calls)) for engine in (alone, divided)]
        stages = [f"{len(stage.layers)} layers on {stage.device}" for stage in divided.target.stages]
    different = sum(
        int((one.view(np.int32) != other.view(np.int32)).any(axis=-1).sum())
        for one, other in zip(found, expected, strict=True)
    )
    prompts = sum(len(ids) for ids, _ in calls)
    table = Table(f"{shape}, workload {name}, {len(calls)} calls", ["devices", "seconds", "prompts/s"])
    for where, seconds in zip(("1", ", ".join(stages)), taken, strict=True):
        table.add(where, number(seconds), number(prompts / seconds))
    gain = taken[0] / taken[1]
    # The first batch fills the pipeline alone, and the last one empties it.
    limit = DEVICES * len(calls) / (len(calls) + DEVICES - 1)
    line = (
        f"{gain:.2f} times the rate of one device; {limit:.2f} would be the limit with equal stages and a batch a call "
        f"({percent(gain / limit)} of it); {different:,} of {prompts:,} prompts have other bits"
    )
    data = {"seconds": taken, "gain": gain, "limit": limit, "different": different}
    measured = [Measured("bits", f"{shape}, divided over {DEVICES} devices", float(different))]
    return Section([table], [line], data, measured=measured)


def two_devices(device: Device) -> str:
    """The names of two devices: in a rehearsal the CPU, twice."""
    if device.is_rehearsal:
        return ",".join(["cpu"] * DEVICES)
    there = torch.cuda.device_count()
    if there < DEVICES:
        raise NotHereError(f"a model is divided over {DEVICES} GPUs, and there is {there}")
    return ",".join(map(str, range(DEVICES)))
