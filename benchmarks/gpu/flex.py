"""FlexAttention with a causal block mask on prompts without sharing, in a process of its own: compiling may take long.

    python -m benchmarks.gpu.flex DEVICE HEADS KV_HEADS SIZE BATCHxLENGTH ...

Prints one JSON object for each batch of prompts as soon as it is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.gpu.report import ROOT, Section, Table, number
from benchmarks.gpu.session import Session


def run(session: Session, shape: str, seconds: float) -> Section:
    """On the prompts of the attention steps, as far as it gets in so many seconds."""
    from benchmarks.gpu.attention import plant

    config, workload = session.sizes.shapes[shape], "22 prompts"
    counts = {path: plant(workload, path, session.sizes.rows).prompts for path in session.sizes.paths}
    sizes = (config.num_heads, config.num_kv_heads, config.head_dim)
    asked = [f"{count}x{path}" for path, count in counts.items()]
    command = [sys.executable, "-m", "benchmarks.gpu.flex", session.device.torch_device.type, *map(str, sizes), *asked]
    lines, ended = _lines(command, min(seconds, session.seconds_left - 5))
    table = Table(f"{shape}, {workload}", ["path", "prompts", "FlexAttention us", "tree us", "FlexAttention / tree"])
    section = Section([table], data={"measured": lines})
    for line in lines:
        tree = session.report.data(attention_title(shape, line["length"])).get(workload, {}).get("seconds")
        ratio = number(line["seconds"] / tree) if tree else "-"
        flex = number(line["seconds"] * 1e6)
        table.add(f"{line['length']:,}", line["batch"], flex, number(tree * 1e6) if tree else "-", ratio)
    if len(lines) < len(counts):
        section.lines.append(f"{len(lines)} of {len(counts)} measured: {ended}")
        section.is_cut = ended.startswith("cut off")
    return section


def attention_title(shape: str, path: int) -> str:
    """The title of the step that times tree attention."""
    return f"Attention, {shape}, paths of {path:,}"


def main(argv: Sequence[str]) -> None:
    """Measure what the arguments ask for, in order."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    from benchmarks.gpu.device import Device, Gpu, Rehearsal

    device: Device = Gpu() if argv[0] == "cuda" else Rehearsal()
    heads, kv_heads, size = map(int, argv[1:4])
    # Uncompiled it computes the same, slowly.
    attend: Any = flex_attention if device.is_rehearsal else torch.compile(flex_attention, dynamic=False)

    def causal(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return query >= key

    for item in argv[4:]:
        batch, length = map(int, item.split("x"))
        mask = create_block_mask(causal, None, None, length, length, device=str(device.torch_device))
        q, k, v = (device.random(batch, count, length, size) for count in (heads, kv_heads, kv_heads))
        timing = device.time([partial(attend, q, k, v, block_mask=mask, enable_gqa=True)])
        print(json.dumps({"batch": batch, "length": length, "seconds": timing.seconds}), flush=True)
        del q, k, v
        device.release()


def _lines(command: Sequence[str], limit: float) -> tuple[list[dict[str, Any]], str]:
    """What the process printed, and how it ended. Files, not pipes: compilers that outlive it would hold those."""
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        try:
            done = subprocess.run(
                command, cwd=ROOT, stdout=out, stderr=errors, env=environment, timeout=max(1.0, limit)
            )
            ended = f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:  # it has been killed
            ended = f"cut off after {limit:.0f} s"
        out.seek(0)
        errors.seek(0)
        last = errors.read().strip().splitlines()[-1:]
        return [json.loads(line) for line in out if line.startswith("{")], " ".join([ended, *last])


if __name__ == "__main__":
    main(sys.argv[1:])
