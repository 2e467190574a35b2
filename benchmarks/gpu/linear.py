"""Linear layers in row blocks of several heights, so that the block can be chosen by measurement."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import ModuleType

from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Session
from preftree.engine.config.model_config import ModelConfig

# Products that add to the residual stream, and are timed so.
ADDED = ("o", "down")


def run(session: Session, shape: str) -> Section:
    device, config = session.device, session.sizes.shapes[shape]
    blocks, rows = session.sizes.row_blocks, session.sizes.rows
    table = Table(
        f"{shape}: TFLOP/s and share of the matrix rate, {rows:,} rows in blocks",
        ["layer", *(f"{block:,} rows" for block in blocks)],
    )
    seconds = dict.fromkeys(blocks, 0.0)
    section = Section([table])
    with exact(device.ops):
        for name, (out, columns) in matrices(config).items():
            packed, x = device.ops.pack_linear(device.random(out, columns)), device.random(rows, columns)
            stream = device.random(rows, out) if name in ADDED else None
            cells = []
            for block in blocks:
                parts = x.split(block)
                calls = [partial(device.ops.linear, part, packed) for part in parts]
                if stream is not None:
                    added = zip(stream.split(block), parts, strict=True)
                    calls = [partial(device.ops.add_linear, *one, packed) for one in added]
                timing = device.time(calls, session.sizes.window)
                seconds[block] += timing.seconds * len(parts)
                rate = 2 * block * out * columns / timing.seconds
                cells.append(f"{number(rate / 1e12)} ({percent(rate / session.ceilings.matrix)})")
                section.data[f"{name}, {block}"] = {"seconds": timing.seconds, "flops_per_second": rate}
            table.add(f"{name} [{out:,}, {columns:,}]", *cells)
            device.release()
    flops = 2 * rows * sum(out * columns for out, columns in matrices(config).values())
    rates = [flops / seconds[block] for block in blocks]
    table.add("all of a layer", *(f"{number(r / 1e12)} ({percent(r / session.ceilings.matrix)})" for r in rates))
    table.add("us a layer and 1,000 rows", *(number(seconds[block] * 1e9 / rows) for block in blocks))
    section.data["layer seconds by block"] = {str(block): seconds[block] for block in blocks}
    return section


def matrices(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Rows and columns of the weights of a layer, as the engine packs them."""
    return {
        "qkv": (config.q_size + 2 * config.kv_size, config.hidden_size),
        "o": (config.hidden_size, config.q_size),
        "gate_up": (2 * config.intermediate_size, config.hidden_size),
        "down": (config.hidden_size, config.intermediate_size),
    }


def exact(ops: ModuleType) -> AbstractContextManager[None]:
    """The engine's setting of the library's sums."""
    setting: AbstractContextManager[None] = ops.exact_products() if hasattr(ops, "exact_products") else nullcontext()
    return setting
