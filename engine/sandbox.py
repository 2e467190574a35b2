"""Runs a Jinja template in a process of its own, which is ended when it takes too long or too much.

Jinja's sandbox keeps a template from Python's internals, but not from running for ever or from asking for gigabytes,
while it is compiled already (constants are folded). So it gets a process with little time and little memory.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from preftree.engine.files import first_line

CHILD = Path(__file__).with_name("sandbox_child.py")
CPU_SECONDS = 3  # for compiling, and for each rendering
WALL_SECONDS = 15  # of a machine that has other things to do; rendering takes less than a millisecond
MEMORY_BYTES = 512 << 20


class TemplateFailure(Exception):
    """What is wrong with a template, in one line that goes on after "the template"; line: of its source, if known."""

    def __init__(self, said: str, line: int | None = None) -> None:
        super().__init__(said)
        self.line = line


class TemplateBroken(TemplateFailure):
    """One that fails whatever it is given: it does not compile, or was cut off."""


class Sandbox:
    """One template. Its process starts when it is needed, and again after it was cut off. Threads may share it."""

    def __init__(self, source: str, dialect: Literal["chat", "plain"], max_characters: int) -> None:
        """dialect: "chat" is set up as transformers does, "plain" as Jinja, but strict about what is undefined.

        max_characters: of what it renders.
        """
        self._source = source
        limits = map(str, (CPU_SECONDS, MEMORY_BYTES, max_characters))
        self._arguments = ["-I", "-S", str(CHILD), dialect, *limits, *_homes("jinja2", "markupsafe")]
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0  # process that started it
        self._lock = threading.Lock()

    def compile(self) -> None:
        """TemplateBroken for one that does not compile."""
        with self._lock:
            self._start()

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text. TemplateFailure when there is none."""
        with self._lock:
            self._start()
            answer = self._asked(dict(variables))
            if "error" in answer:
                raise TemplateFailure(f"fails ({answer['error']})", answer["line"])
            return str(answer["text"])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            _end(self._process, self._owner)
            self._process = None

    def _start(self) -> None:
        """Unless it runs. A process that was forked from this one does not share it: answers would get mixed up."""
        if self._process is not None and self._owner == os.getpid():
            return
        try:
            pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            # A session of its own: a Ctrl-C is for the program that renders, which may finish what it has begun.
            process = subprocess.Popen([sys.executable, *self._arguments], **pipes, start_new_session=True)
        except (OSError, ValueError) as error:
            raise TemplateBroken(f"cannot be rendered: no process can be started ({first_line(error)})") from None
        self._process, self._owner = process, os.getpid()
        weakref.finalize(self, _end, process, self._owner)
        answer = self._asked(self._source)
        if "error" in answer:
            self.close()
            raise TemplateBroken(f"is broken ({answer['error']})", answer["line"])

    def _asked(self, message: Any) -> dict[str, Any]:
        """The answer to one line. Without one there is an exception, and no process that might still give it."""
        try:
            return self._answer(message)
        except BaseException:  # a KeyboardInterrupt, too
            self.close()
            raise

    def _answer(self, message: Any) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # why it ended is found below
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        if not select.select([process.stdout], [], [], WALL_SECONDS)[0]:
            raise TemplateBroken(f"takes more than {WALL_SECONDS} seconds")
        answer = process.stdout.readline()
        if answer.endswith(b"\n"):
            found: dict[str, Any] = json.loads(answer)
            return found
        assert process.stderr is not None
        errors = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        process.wait()
        if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            raise TemplateBroken(f"takes more than {CPU_SECONDS} seconds")
        why = errors[0][:200] if errors else f"exit status {process.returncode}"
        raise TemplateBroken(f"brings its process down ({why})")


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return
    process.kill()
    with suppress(BrokenPipeError), process:  # closes the pipes, and waits
        pass


def _homes(*packages: str) -> list[str]:
    """Directories to import `packages` from: the child sees no others, the working directory least of all."""
    specs = [find_spec(package) for package in packages]
    return sorted({str(Path(spec.origin).parents[1]) for spec in specs if spec and spec.origin})
