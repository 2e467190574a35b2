"""Python in a process of its own: a module of these tests, a command, or code.

Its environment is that of the tests without what changes Python or belongs to pytest; libraries use one thread and no
network. Packages that lie beside the environment are imported where a test names them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# What `make .venv/.ready-dev` sets up beside the environment.
TRAINERS, OPENRLHF, HARNESS, RAY = (Path(sys.prefix) / name for name in ("train", "openrlhf", "lm-eval", "ray"))
FOREIGN_KERNELS = Path(sys.prefix) / "hf-kernels"
_LEFT_OUT = ("PYTHON", "PYTEST")
_OWN = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def require(package: Path) -> None:
    """Fails with the way to set it up where the folder of a package that lies beside the environment is not there."""
    assert package.is_dir(), f"no package in {package}; set it up with: make .venv/.ready-dev"


def environment(own: Mapping[str, str | None] | None = None, imports: Sequence[Path] = (ROOT,)) -> dict[str, str]:
    """The variables of a process.

    Args:
        own: variables beside the others, or in their place; None takes one away.
        imports: folders in which Python looks first.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    path = {"PYTHONPATH": os.pathsep.join(map(str, imports))} if imports else {}
    changed: dict[str, str | None] = {**kept, **_OWN, **path, **(own or {})}
    return {name: value for name, value in changed.items() if value is not None}


def run_python(
    *arguments: object,
    imports: Sequence[Path] = (ROOT,),
    own: Mapping[str, str | None] | None = None,
    given: str | None = None,
    cwd: Path = ROOT,
    seconds: float = 300,
    interpreter: str | Path = sys.executable,
) -> subprocess.CompletedProcess[str]:
    """What became of `python ARGUMENTS...`, whatever its exit code is.

    Args:
        arguments: as on a command line, such as "-m" and a module, or "-c" and code.
        imports: folders in which it looks first.
        own: variables that differ from those of `environment`; None takes one away.
        given: its standard input.
        cwd: the folder in which it runs.
        seconds: after which it is killed.
        interpreter: another Python.

    Raises:
        AssertionError: it took longer. The message has what it wrote to standard error.
    """
    command = [str(interpreter), *map(str, arguments)]
    variables = environment(own, imports)
    try:
        return subprocess.run(
            command, input=given, env=variables, cwd=cwd, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as late:
        said = late.stderr.decode("utf-8", "replace") if isinstance(late.stderr, bytes) else late.stderr
        raise AssertionError(_failure(command, f"took more than {seconds} seconds", said or "")) from None


def printed(*arguments: object, **options: Any) -> str:
    """The standard output of a process that ends well; arguments and options as in `run_python`.

    Raises:
        AssertionError: its exit code is another than 0, or as in `run_python`.
    """
    done = run_python(*arguments, **options)
    assert done.returncode == 0, _failure(done.args, f"ended with {done.returncode}", done.stderr)
    return done.stdout


def answered(*arguments: object, **options: Any) -> Any:
    """The JSON in the last line that a process prints; arguments, options and errors as in `printed`."""
    return json.loads(printed(*arguments, **options).splitlines()[-1])


def start_python(*arguments: object, **pipes: int) -> subprocess.Popen[str]:
    """A process that runs beside the test; pipes: "stdin" and the like, as of `subprocess.Popen`."""
    command = [sys.executable, *map(str, arguments)]
    streams: dict[str, Any] = dict(pipes)
    return subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, **streams)


def memory_bytes(field: str) -> int:
    """Of this process, by its name in /proc/self/status.

    Args:
        field: "VmRSS" is what is resident, "VmHWM" the most that was so far, and "RssAnon" what is resident without
            pages of files, which the system drops when others need the memory.
    """
    found = re.search(rf"^{field}:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, field
    return int(found[1]) * 1024


def _failure(command: Sequence[str], what: str, said: str) -> str:
    shown = " ".join(part if len(part) <= 80 else f"{part[:77]}..." for part in command)
    return f"{shown}\n{what}; standard error:\n{said}"
