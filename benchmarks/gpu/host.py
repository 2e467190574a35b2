"""How long the host plans while the device runs."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from unittest import mock

# Module and name of what plans: checking and cutting a call, then a batch's trie, tiles and tensors.
PLANNING = (
    ("preftree.engine.scoring.runner", "checked_prompts"),
    ("preftree.engine.scoring.runner", "schedule"),
    ("preftree.engine.scoring.runner", "PreparedBatch.of"),
)


@dataclass
class HostClock:
    """seconds: spent in planning so far, in whatever thread. missing: names that the engine no longer has."""

    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                with self.lock:
                    self.seconds += time.perf_counter() - started

        return call


@contextmanager
def host_clock() -> Iterator[HostClock]:
    """Times planning while the context lasts; what the engine has moved elsewhere is named, not timed."""
    clock = HostClock()
    with ExitStack() as stack:
        for module, dotted in PLANNING:
            *path, last = dotted.split(".")
            try:
                holder = functools.reduce(getattr, path, import_module(module))
                stack.enter_context(mock.patch.object(holder, last, clock.timed(getattr(holder, last))))
            except (AttributeError, ImportError):
                clock.missing.append(f"{module}.{dotted}")
        yield clock
