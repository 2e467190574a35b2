"""Standard error, held back while a library runs that writes to it without being asked."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_TURN = threading.Lock()  # the process has one standard error


@contextmanager
def held_back() -> Iterator[None]:
    """What the process writes to standard error comes after the block, or, where the block raises, never.

    A panic in Rust prints lines of its own before it becomes an exception, and nothing in Python can keep it from that.
    Blocks of several threads take turns.
    """
    with _TURN:
        try:
            theirs = os.dup(2)
        except OSError:  # it is closed
            yield
            return
        with tempfile.TemporaryFile() as kept:
            os.dup2(kept.fileno(), 2)
            try:
                yield
            except BaseException:
                kept.truncate(0)
                raise
            finally:
                os.dup2(theirs, 2)
                os.close(theirs)
                _copy(kept)


def _copy(kept: IO[bytes]) -> None:
    kept.seek(0)
    content = kept.read()
    while content:
        content = content[os.write(2, content) :]
