"""Processor time of this process and of the children that it has waited for.

What else the machine does takes wall time and none of it, so that a bound holds there, too.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


def processor_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails where what is done in it takes more processor time."""
    start = processor_seconds()
    yield
    took = processor_seconds() - start
    assert took < seconds, f"took {took:.1f} seconds of the processor, and may take {seconds}"
