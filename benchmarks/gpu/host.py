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
    ("engine.running.runner", "checked_prompts"),
    ("engine.running.runner", "schedule"),
    ("engine.running.runner", "PreparedBatch.of"),
)


@dataclass
class HostClock:
    """seconds: spent in planning so far, in whatever thread."""

    seconds: float = 0.0
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
    """Times planning while the context lasts. Raises AttributeError where the engine has moved it elsewhere."""
    clock = HostClock()
    with ExitStack() as stack:
        for module, dotted in PLANNING:
            holder, names = import_module(module), dotted.split(".")
            for name in names[:-1]:
                holder = getattr(holder, name)
            stack.enter_context(mock.patch.object(holder, names[-1], clock.timed(getattr(holder, names[-1]))))
        yield clock
