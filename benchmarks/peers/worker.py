"""The process of a contestant, as the benchmark sees it: one line of JSON to it, one line back.

While one is asked, the others wait for their next line and take no processor time.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from preftree.engine.errors import PreftreeError

# vLLM compiles for more than a minute, and its first import on a machine takes as long.
LOAD_SECONDS = 900.0
RUN_SECONDS = 3600.0
_SHOWN_CHARACTERS = 200


class WorkerError(PreftreeError):
    """A contestant that refused, died, hung, or answered with something else than JSON."""


class Worker:
    """A running contestant. Made by `start`; a context manager that ends the process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, facts: dict[str, Any]) -> None:
        self.name = name
        self.facts = facts
        self._process = process
        self._log = log
        self._pending = b""

    @classmethod
    def start(cls, name: str, command: Sequence[str], cwd: Path, log: Path) -> Worker:
        """Start the process and wait until it has loaded. log: where its errors and chatter go. Raises WorkerError."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        try:
            with log.open("wb") as errors:
                process = subprocess.Popen(
                    command,
                    cwd=cwd,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    bufsize=0,
                )
        except OSError as error:
            raise WorkerError(f"{name} does not start: {command[0]}: {error.strerror or error}") from None
        worker = cls(name, process, log, {})
        try:
            worker.facts = {key: value for key, value in worker._reply(LOAD_SECONDS).items() if key != "ready"}
        except WorkerError:
            worker.close()
            raise
        return worker

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to `request`. Raises WorkerError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._death() from None
        return self._reply(RUN_SECONDS)

    def close(self) -> None:
        """End the process: at the end of its input, or by force where that does not do."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _reply(self, seconds: float) -> dict[str, Any]:
        line = self._line(seconds)
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if not isinstance(reply, dict):
            shown = line.decode("utf-8", "replace")[:_SHOWN_CHARACTERS]
            raise WorkerError(f"{self.name} answered with something else than JSON: {shown!r}")
        if "error" in reply:
            raise WorkerError(f"{self.name}: {reply['error']}")
        return reply

    def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        output, ends = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._pending:
            if not select.select([output], [], [], max(0.0, ends - time.monotonic()))[0]:
                self._process.kill()
                raise WorkerError(f"{self.name} did not answer within {seconds:.0f} s")
            if not (found := os.read(output, 1 << 16)):
                raise self._death()
            self._pending += found
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _death(self) -> WorkerError:
        code = self._process.wait()
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return WorkerError(f"{self.name} {how}: {last[:_SHOWN_CHARACTERS]}")
