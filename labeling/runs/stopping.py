"""Ctrl-C or SIGTERM while rows are labelled: the first lets what was begun be finished, the second stops at once."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any


class Stopping:
    """A context in which the first of these signals only sets `asked`. Outside the main thread it changes nothing."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stopping:
        is_main = threading.current_thread() is threading.main_thread()
        for number in (signal.SIGINT, signal.SIGTERM) if is_main else ():
            before = signal.getsignal(number)
            if before is signal.default_int_handler or (number == signal.SIGTERM and before is signal.SIG_DFL):
                self._before[number] = signal.signal(number, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        for one in self._before:
            signal.signal(one, signal.default_int_handler)
        again = "press Ctrl-C again" if number == signal.SIGINT else "send SIGTERM again"
        said = f"finishing the current batch; {again} to stop now"
        # This thread may be in the middle of a write to the same stream, which cannot be entered twice.
        telling = threading.Thread(target=logging.getLogger("preftree").info, args=(said,))
        telling.start()
        telling.join(0.1)
