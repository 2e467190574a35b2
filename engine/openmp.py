"""OpenMP's threads, with which torch computes on a CPU: how they wait for each other, and when they end."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path


def wait_briefly() -> None:
    """Let OpenMP threads sleep after a short wait, unless the environment says how they wait.

    By default they spin. With one other busy process on the machine that made scoring up to thirty times slower; on an
    idle one, sleeping costs up to a sixth. It changes the process's environment, and counts if it is called before
    torch is first imported: so programs call it, and the library does not.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def dismiss_team() -> None:
    """End the threads that OpenMP keeps for the calling thread; the next computation makes new ones in 0.1 ms.

    OpenMP keeps a team for each thread that ever computed. Once all teams together have more threads than the machine
    has cores, GNU's library lets none of them spin, and every operation waits for threads to wake up: an embedded model
    in a second thread took 1.6 times as long.
    """
    _pause()(_PAUSE_SOFT)


_PAUSE_SOFT = 1


@functools.cache
def _pause() -> Callable[[int], object]:
    """OpenMP's `omp_pause_resource_all`, of the library that torch brings along, where it does."""
    import torch

    for path in Path(torch.__file__).parent.glob("lib/lib*omp*"):
        if hasattr(library := ctypes.CDLL(str(path)), "omp_pause_resource_all"):
            return library.omp_pause_resource_all
    return lambda kind: None
