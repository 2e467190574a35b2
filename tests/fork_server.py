"""Modules that run in forks of a process which has imported what takes seconds to import.

`python -m tests.fork_server STATEMENT` runs the statement, then for each line of JSON that it reads a module, as
`python -m` would, and prints how it ended. Its end is that of its standard input.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.processes import ROOT, TRAINERS, environment, require

_STREAMS = ("stdin", "stdout", "stderr")


class ForkServer:
    """A process that forks.

    What its modules keep for libraries of Hugging Face lies in a folder that ends with it.
    """

    def __init__(self, statement: str, imports: Sequence[Path] = (ROOT,)) -> None:
        """statement: of Python, such as an import. imports: folders in which Python looks first."""
        self._home = tempfile.TemporaryDirectory(prefix="preftree-tests-")
        variables = environment({"HF_HOME": self._home.name}, imports)
        command = [sys.executable, "-m", "tests.fork_server", statement]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, cwd=ROOT, env=variables, text=True, **pipes)
        atexit.register(self.close)

    def answered(
        self,
        module: str,
        *arguments: object,
        given: str = "",
        cwd: Path = ROOT,
        imports: Sequence[Path] = (),
        seconds: int = 600,
    ) -> Any:
        """The JSON in the last line that a module prints.

        Args:
            module: by its name.
            arguments: of its command line.
            given: its standard input.
            cwd: the folder in which it runs.
            imports: more folders in which it looks, after all others.
            seconds: after which it is killed.

        Raises:
            AssertionError: it ended otherwise than well. The message has what it wrote to standard error.
        """
        with tempfile.TemporaryDirectory(dir=self._home.name) as folder:
            Path(folder, "stdin").write_text(given)
            command = [module, *map(str, arguments)]
            asked = {"command": command, "streams": folder, "cwd": str(cwd), "imports": list(map(str, imports))}
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(asked | {"seconds": seconds}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            assert line, "the process that forks has ended"
            said = Path(folder, "stderr").read_text()
            assert json.loads(line) == 0, f"{' '.join(command)}\nended with {line.strip()}; standard error:\n{said}"
            return json.loads(Path(folder, "stdout").read_text().splitlines()[-1])

    def close(self) -> None:
        """Ends the process."""
        atexit.unregister(self.close)
        self._process.communicate()
        self._home.cleanup()


@cache
def trainers() -> ForkServer:
    """With TRL, which takes seven seconds to import; once for all tests of a process."""
    require(TRAINERS)
    return ForkServer("from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer", (ROOT, TRAINERS))


def _forked(asked: Mapping[str, Any]) -> int:
    """The exit code of a module; as of `subprocess`, below 0 for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        signal.alarm(asked["seconds"])
        for number, name in enumerate(_STREAMS):
            flags = os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT
            os.dup2(os.open(Path(asked["streams"], name), flags), number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the old one may have read ahead
        os.chdir(asked["cwd"])
        module, *arguments = asked["command"]
        sys.argv, sys.path = [module, *arguments], [*sys.path, *asked["imports"]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(statement: str) -> None:
    exec(statement, {})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    while line := sys.stdin.readline():
        print(_forked(json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
