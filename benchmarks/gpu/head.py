"""The label head against its floor: the output matrix read once, or the products' operations."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Session

LABELS = 2


def run(session: Session, shape: str) -> Section:
    device, config = session.device, session.sizes.shapes[shape]
    vocab, hidden = config.vocab_size, config.hidden_size
    head = device.ops.pack_head(device.random(vocab, hidden))
    table = Table(f"{shape}, {vocab:,} x {hidden:,}", ["rows", "us", "floor us", "of the floor", "TFLOP/s", "spread"])
    section = Section([table])
    for rows in session.sizes.head_rows:
        x = device.random(rows, hidden)
        query_rows = torch.arange(rows, device=device.torch_device).repeat_interleave(LABELS)
        tokens = torch.arange(rows * LABELS, device=device.torch_device) % vocab
        call = partial(device.ops.label_head, x, head, query_rows, tokens)
        timing = device.time([call], session.sizes.window)
        operations = 2 * rows * hidden * vocab
        floor = session.ceilings.floor((vocab + rows) * hidden * device.dtype.itemsize, operations)
        share, rate = floor / timing.seconds, operations / timing.seconds
        times = (number(timing.seconds * 1e6), number(floor * 1e6))
        table.add(f"{rows:,}", *times, percent(share), number(rate / 1e12), percent(timing.spread))
        section.data[str(rows)] = {"seconds": timing.seconds, "share": share, "flops_per_second": rate}
    return section
