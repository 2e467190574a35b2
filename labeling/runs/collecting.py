"""Python's garbage collector, while rows stream."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_COLLECT_AFTER = 100_000


@contextmanager
def few_collections() -> Iterator[None]:
    """Rows come and go in windows and make no cycles: looking for some after every 700 objects takes a quarter of the
    time that a row takes without its model.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
