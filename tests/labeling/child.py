"""A task in a process of its own: what crashes or hangs there is a text here."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def in_child(task: Callable[[], str], seconds: int = 60) -> str:
    """What `task` returns in a process of its own; that it was killed, where it was."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            signal.alarm(seconds)
            os.write(writing, task().encode()[:4096])
        except BaseException as error:
            os.write(writing, f"raised {type(error).__name__}: {error}".encode()[:4096])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        text = said.read().decode("utf-8", "replace")
    status = os.waitpid(child, 0)[1]
    return f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else text
