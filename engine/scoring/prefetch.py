"""The host's work done ahead of the device's, by a thread of its own."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

# Seconds that a thread may hold the interpreter while another waits. Launching kernels lets go of it at every launch:
# at Python's own 5 ms, and still at 0.1 ms, an H200 ran dry between two kernels of a 0.6B model.
SWITCH_INTERVAL = 1e-5
_PATIENCE = 0.05


@dataclass(frozen=True)
class _Raised:
    error: BaseException


_END = object()


def ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """`items`, up to `depth` of them made before they are asked for.

    What raises there raises here, in its place. Closing this iterator stops the thread and closes `items`.
    """
    waiting: queue.Queue[object] = queue.Queue(depth)
    closing = threading.Event()

    def put(item: object) -> None:
        while not closing.is_set():
            try:
                waiting.put(item, timeout=_PATIENCE)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if closing.is_set():
                    break
            put(_END)
        except BaseException as error:
            put(_Raised(error))
        finally:
            if hasattr(items, "close"):
                items.close()

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=produce, name="preftree-planner", daemon=True)
    try:
        sys.setswitchinterval(min(interval, SWITCH_INTERVAL))
        thread.start()
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        closing.set()
        thread.join()
        sys.setswitchinterval(interval)
