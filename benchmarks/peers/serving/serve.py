"""A contestant as a process: it loads once, then answers requests, one JSON object a line, until its input ends.

    python serve.py MODULE JOB.json

MODULE has `open_contestant(job)`, whose result has `facts` and `answer(request)`, both JSON objects. The first line
of the output is {"ready": true} with the facts. A request that fails is answered with {"error": one line}.

Run as a script under the interpreter of another environment, where only the standard library can be relied upon.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def main(module: str, job: str) -> int:
    # Libraries print what they like on the standard output; it goes where their errors go, and replies go alone.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=replies, flush=True)

    def opened() -> Any:
        return importlib.import_module(module).open_contestant(json.loads(Path(job).read_text(encoding="utf-8")))

    def answered(line: str) -> dict[str, Any]:
        return {**contestant.answer(json.loads(line)), "peak_bytes": peak_bytes()}

    contestant, refusal = _tried(opened)
    if contestant is None:
        reply({"error": refusal})
        return 1
    reply({"ready": True, **contestant.facts})
    for line in sys.stdin:
        answer, problem = _tried(partial(answered, line))
        reply({"error": problem} if answer is None else answer)
    return 0


def peak_bytes() -> int | None:
    """The highest resident set size of this process so far; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _tried(action: Callable[[], Any]) -> tuple[Any, str]:
    """The result and "", or None and what went wrong, in one line. The whole story goes into the log."""
    try:
        return action(), ""
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        text = next(iter(str(error).splitlines()), "")
        # A problem that is the user's to solve says itself what it is.
        is_plain = any(kind.__name__ == "PreftreeError" for kind in type(error).__mro__)
        return None, text if is_plain else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
