"""How torch's OpenMP threads wait for each other on a CPU."""

from __future__ import annotations

import os


def wait_briefly() -> None:
    """Let OpenMP threads sleep after a short wait, unless the environment says how they wait.

    By default they spin. With one other busy process on the machine that made scoring up to thirty times slower;
    sleeping costs nothing on an idle one. It changes the process's environment, and counts if it is called before torch
    is first imported: so programs call it, and the library does not.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
