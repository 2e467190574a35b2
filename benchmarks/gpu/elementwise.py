"""The kernels that are bound by memory, each against the time that its bytes take to copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.gpu.device import Call, Device
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured
from preftree.engine.config.model_config import ModelConfig

# Inputs are taken in turns from several sets that together are so many times the last cache.
CACHE_MULTIPLE = 4
MOST_SETS = 12
# Models narrower than this get more rows: kernels of some microseconds would be timed with the gaps between them.
FULL_WIDTH = 4096


@dataclass(frozen=True)
class Case:
    """moved: elements read and written, each once. make: a call on inputs of its own."""

    moved: int
    make: Callable[[], Call]


def run(session: Session, shape: str) -> Section:
    device, config = session.device, session.sizes.shapes[shape]
    rows = session.sizes.rows * max(1, FULL_WIDTH // config.hidden_size)
    table = Table(f"{shape}, {rows:,} rows", ["kernel", "MB", "us", "floor us", "of copy bandwidth", "spread"])
    section = Section([table])
    for name, case in cases(config, rows, device).items():
        moved = case.moved * device.dtype.itemsize
        sets = max(2, min(MOST_SETS, -(-CACHE_MULTIPLE * device.cache_bytes // moved)))
        timing = device.time([case.make() for _ in range(sets)], session.sizes.window)
        floor = session.ceilings.floor(moved)
        share = floor / timing.seconds
        times = (number(timing.seconds * 1e6), number(floor * 1e6))
        table.add(name, number(moved / 1e6), *times, percent(share), percent(timing.spread))
        section.data[name] = {"bytes": moved, "seconds": timing.seconds, "share": share}
        section.measured.append(Measured("element-wise", f"{shape}, {name}", share, share))
        device.release()
    return section


def cases(config: ModelConfig, rows: int, device: Device) -> dict[str, Case]:
    """The element-wise kernels at the sizes of a model."""
    ops, eps, size = device.ops, config.norm_eps, config.head_dim
    hidden, q, kv, inner = config.hidden_size, config.q_size, config.kv_size, config.intermediate_size

    def norm(kind: Callable[..., torch.Tensor], streams: int) -> Call:
        inputs = [*(device.random(rows, hidden) for _ in range(streams)), device.random(hidden)]
        return lambda: kind(*inputs, eps)

    def swiglu() -> Call:
        x = device.random(rows, 2 * inner)
        return lambda: ops.swiglu(x)

    def rotate(is_normed: bool) -> Call:
        x, cos, sin = device.random(rows, q), device.random(rows, size // 2), device.random(rows, size // 2)
        out = torch.empty_like(x).view(rows, config.num_heads, size)
        norm = device.random(size) if is_normed else None
        return lambda: ops.rotate(x, cos, sin, out=out, norm=norm, eps=eps)

    def store_kv(is_normed: bool) -> Call:
        x, cos, sin = device.random(rows, 2 * kv), device.random(rows, size // 2), device.random(rows, size // 2)
        out = torch.empty_like(x).view(rows, 2, config.num_kv_heads, size)
        norm = device.random(size) if is_normed else None
        return lambda: ops.store_kv(x, cos, sin, out=out, norm=norm, eps=eps)

    def store_qkv(is_normed: bool) -> Call:
        x, angles = device.random(rows, q + 2 * kv), tuple(device.random(rows, size // 2) for _ in range(2))
        queries = device.random(rows, q).view(rows, config.num_heads, size)
        out = device.random(rows, 2 * kv).view(rows, 2, config.num_kv_heads, size)
        norms = (device.random(size), device.random(size)) if is_normed else None
        return lambda: ops.store_qkv(x, angles, angles, queries, out, norms, eps)

    found = {
        "rms_norm": Case(2 * rows * hidden, partial(norm, ops.rms_norm, 1)),
        "add_rms_norm": Case(4 * rows * hidden, partial(norm, ops.add_rms_norm, 2)),
        "layer_norm": Case(2 * rows * hidden, partial(norm, ops.layer_norm, 1)),
        "add_layer_norm": Case(4 * rows * hidden, partial(norm, ops.add_layer_norm, 2)),
        "swiglu": Case(3 * rows * inner, swiglu),
    }
    for is_normed in (False, True):
        suffix = ", q/k norm" if is_normed else ""
        found[f"rotate{suffix}"] = Case(rows * (2 * q + size), partial(rotate, is_normed))
        found[f"store_kv{suffix}"] = Case(rows * (4 * kv + size), partial(store_kv, is_normed))
        if hasattr(ops, "store_qkv"):  # what the forward pass launches for most models, instead of the two before
            found[f"store_qkv{suffix}"] = Case(rows * (2 * q + 4 * kv + size), partial(store_qkv, is_normed))
    return found
