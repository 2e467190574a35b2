"""The process around a command: its standard streams, the encoding of names, and what SIGTERM does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from preftree.engine.errors import OutputError


class Stream:
    """A text stream to a terminal, a file or a pipe. Once it cannot be written, the rest goes nowhere.

    `print` and whatever else takes a stream may be given one.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        """What is buffered goes nowhere, too: else Python would fail to write it when it exits."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()


class ResultStream(Stream):
    """What a command prints is what it is for: raises OutputError, and BrokenPipeError where nobody reads it."""

    def _failed(self, error: OSError) -> None:
        super()._failed(error)
        if isinstance(error, BrokenPipeError):
            raise error
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


@contextmanager
def standard_streams() -> Iterator[None]:
    """stdout and stderr that may be closed, full, or lack a character: it is shown as an escape.

    A closed one is opened to nowhere, lest the next file get its number and a library's message with it.
    """
    before = sys.stdout, sys.stderr
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    out, err = (open(os.devnull, "w", encoding="utf-8") if one is None else one for one in before)  # noqa: SIM115
    for stream in (out, err):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = ResultStream(out), Stream(err)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which would end the process at once, is a KeyboardInterrupt, as Ctrl-C is."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def speak_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has another encoding, which names and texts may not have.

    What is printed stays in that of the locale.
    """
    if sys.getfilesystemencoding().lower() in ("utf-8", "utf8") or sys.flags.utf8_mode or not sys.executable:
        return
    spoken = getattr(sys.stderr, "encoding", None) or "ascii"
    changed = {
        "PYTHONUTF8": "1",
        "PYTHONIOENCODING": os.environ.get("PYTHONIOENCODING") or f"{spoken}:backslashreplace",
    }
    with suppress(OSError):
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], {**os.environ, **changed})
