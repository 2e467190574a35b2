"""Processes that tests start: what they see, and how they fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.processes import ROOT, answered, environment, memory_bytes, printed, require, run_python, start_python


def test_a_failure_shows_what_the_process_said() -> None:
    """Catches a child whose traceback nobody sees."""
    code = "import sys; sys.exit('the reason')"
    assert run_python("-c", code).returncode == 1
    with pytest.raises(AssertionError, match="ended with 1; standard error:\nthe reason"):
        printed("-c", code)
    with pytest.raises(AssertionError, match="ended with 1; standard error:\nthe reason"):
        answered("-c", code)


def test_a_process_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    """Catches a child that holds the suite up, and the loss of what it said before."""
    code = "import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(60)"
    with pytest.raises(AssertionError, match=r"took more than 3 seconds; standard error:\n\d+\n") as raised:
        run_python("-c", code, seconds=3)
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(raised.value).splitlines()[-1]), 0)


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches a child that imports, or behaves, as the shell of the tests says."""
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("KEPT", "yes")
    found = answered("-c", "import json, os; print(json.dumps(dict(os.environ)))", own={"MORE": "1", "KEPT": None})
    assert not {"PYTHONHASHSEED", "PYTEST_CURRENT_TEST", "KEPT"} & found.keys()
    assert (found["PYTHONPATH"], found["OMP_NUM_THREADS"], found["MORE"]) == (str(ROOT), "1", "1")
    assert environment()["KEPT"] == "yes"
    assert "PYTHONPATH" not in environment(imports=())
    code = "import sys; print(sys.path[1:3])"
    assert printed("-c", code, imports=(ROOT, tmp_path)) == f"{[str(ROOT), str(tmp_path)]}\n"


def test_input_and_the_answer_in_the_last_line(tmp_path: Path) -> None:
    """Catches what libraries print first that is taken for the answer."""
    code = "import json, os, sys; print('hello'); print(json.dumps([sys.stdin.read(), sys.argv[1:], os.getcwd()]))"
    assert answered("-c", code, 7, given="asked", cwd=tmp_path) == ["asked", ["7"], str(tmp_path.resolve())]


def test_a_process_beside_the_test() -> None:
    with start_python("-c", "print(input())", stdin=PIPE, stdout=PIPE) as process:
        assert process.communicate("asked") == ("asked\n", None)
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory() -> None:
    """Catches kilobytes that pass for bytes, and a field that is taken for another."""
    before = memory_bytes("RssAnon")
    held = bytearray(os.urandom(1 << 20)) * 64
    assert 60 << 20 < memory_bytes("RssAnon") - before < 200 << 20
    assert memory_bytes("VmHWM") >= memory_bytes("VmRSS") >= memory_bytes("RssAnon") > len(held)


def test_a_package_that_is_not_set_up(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"no package in .*none; set it up with: make \.venv/\.ready-dev"):
        require(tmp_path / "none")
