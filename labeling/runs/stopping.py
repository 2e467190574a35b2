"""Ctrl-C while rows are labelled: the first lets what was begun be finished, the second stops at once."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any


class Stopping:
    """A context in which the first SIGINT only sets `asked`. Outside the main thread it changes nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Stopping:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logging.getLogger("preftree").info("finishing the current batch; press Ctrl-C again to stop now")
