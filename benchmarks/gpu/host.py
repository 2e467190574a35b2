"""How long the host plans while the device runs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from unittest import mock

from benchmarks.clock import Clock

# Module and name of what plans: checking and cutting a call, then a batch's trie, tiles and tensors.
PLANNING = (
    ("preftree.engine.scoring.runner", "checked_prompts"),
    ("preftree.engine.scoring.runner", "schedule"),
    ("preftree.engine.scoring.runner", "PreparedBatch.of"),
)


@dataclass
class HostClock(Clock):
    """Of planning. missing: names that the engine no longer has."""

    missing: list[str] = field(default_factory=list)


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
