"""Where the engine's time goes: host against forward pass, and the forward pass by kind of operation."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from torch.profiler import ProfilerActivity, profile

from benchmarks.clock import Clock
from benchmarks.workloads import Workload
from preftree.engine.engine import Engine
from preftree.engine.model.model import Model
from preftree.engine.profiling import PREFIX

FORWARD = ("final_hidden", "prefix_kv", "label_logits")
# The kernels' public operations by part. `gated` and `label_head` are linear: next to nothing in them but products.
PARTS = {
    "linear": "linear",
    "add_linear": "linear",
    "gated": "linear",
    "label_head": "linear",
    "expert_products": "linear",
    "tree_attention": "attention",
    "rms_norm": "element-wise",
    "add_rms_norm": "element-wise",
    "layer_norm": "element-wise",
    "add_layer_norm": "element-wise",
    "rotate": "element-wise",
    "store_kv": "element-wise",
    "store_qkv": "element-wise",
    "route": "element-wise",
    "route_by_sigmoid": "element-wise",
    "sort_by_expert": "element-wise",
    "combine_experts": "element-wise",
}


@contextmanager
def forward_clock() -> Iterator[Clock]:
    """Times the model's forward passes while the context lasts. The rest of a scoring call is the host's planning."""
    clock = Clock()
    with ExitStack() as stack:
        for name in FORWARD:
            stack.enter_context(mock.patch.object(Model, name, clock.timed(getattr(Model, name))))
        yield clock


def profile_parts(engine: Engine, workload: Workload) -> tuple[dict[str, float], str]:
    """Seconds of one scoring run by part, and torch.profiler's own table of the slowest operations.

    "other" is what lies in no operation of the kernels: residual additions and copies in the forward pass, planning,
    and the profiler's own cost.
    """
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        started = time.perf_counter()
        engine.score(workload.ids, workload.labels)
        total = time.perf_counter() - started
    averages = trace.key_averages()
    seconds: defaultdict[str, float] = defaultdict(float)
    for event in averages:
        if event.key.startswith(PREFIX) and event.key.removeprefix(PREFIX) in PARTS:
            seconds[PARTS[event.key.removeprefix(PREFIX)]] += event.cpu_time_total / 1e6
    parts: dict[str, float] = {part: seconds[part] for part in dict.fromkeys(PARTS.values())}
    parts["other"] = total - sum(parts.values())
    return parts, str(averages.table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=44))
