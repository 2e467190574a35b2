"""Named ranges for profilers: run, batch, layer and operation.

On a GPU they are NVTX ranges, for tools that watch the process from outside; while torch's own profiler runs, they are
in its trace. Where nobody looks they cost next to nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch.autograd import profiler

PREFIX = "preftree."
OPERATIONS = (
    "linear",
    "add_linear",
    "gated",
    "label_head",
    "scalar_head",
    "token_logits",
    "tree_attention",
    "rms_norm",
    "add_rms_norm",
    "layer_norm",
    "add_layer_norm",
    "fp8_norm",
    "rotate",
    "store_kv",
    "store_qkv",
    "route",
    "route_by_sigmoid",
    "sort_by_expert",
    "expert_products",
    "combine_experts",
)


@contextmanager
def span(name: str, device: torch.device) -> Iterator[None]:
    """A range called "preftree.`name`" while the context lasts."""
    is_cuda = device.type == "cuda"
    is_profiled = profiler._is_profiler_enabled
    if is_cuda:
        torch.cuda.nvtx.range_push(PREFIX + name)
    try:
        if is_profiled:
            with profiler.record_function(PREFIX + name):
                yield
        else:
            yield
    finally:
        if is_cuda:
            torch.cuda.nvtx.range_pop()


def in_spans(ops: ModuleType, device: torch.device) -> SimpleNamespace:
    """The operations of `ops`, each call in a span of its name. Without those that only a GPU has where `ops` are
    a CPU's."""

    def spanned(name: str) -> Callable[..., Any]:
        @functools.wraps(getattr(ops, name))
        def call(*arguments: Any, **named: Any) -> Any:
            operation = getattr(ops, name)
            if device.type == "cpu" and not profiler._is_profiler_enabled:
                return operation(*arguments, **named)
            with span(name, device):
                return operation(*arguments, **named)

        return call

    return SimpleNamespace(**{name: spanned(name) for name in OPERATIONS if hasattr(ops, name)})


@contextmanager
def run_span(device: torch.device) -> Iterator[None]:
    """As `span`, for a range within which others' ranges may begin and end: what a generator leaves open."""
    mark = torch.cuda.nvtx.range_start(PREFIX + "run") if device.type == "cuda" else None
    try:
        yield
    finally:
        if mark is not None:
            torch.cuda.nvtx.range_end(mark)
