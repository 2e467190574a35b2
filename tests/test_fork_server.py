"""Modules in forks: what they are given, what they say, how they fail, and that they are apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fork_server import ForkServer
from tests.processes import ROOT

ECHO = """
import json, os, sys
import colorsys
print("from a library")
seen = hasattr(colorsys, "seen")
colorsys.seen = True
print(json.dumps([sys.stdin.read(), sys.argv[1:], os.getcwd(), seen, "OMP_NUM_THREADS" in os.environ]))
"""
FAILS = "import os, sys\nprint('said before', file=sys.stderr)\n{}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of modules."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "echo_module.py").write_text(ECHO)
    for name, end in (("raises", "1 / 0"), ("exits", "sys.exit(3)"), ("killed", "os.abort()")):
        (folder / f"{name}_module.py").write_text(FAILS.format(end))
    (folder / "sleeps_module.py").write_text("import time; time.sleep(60)")
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer("print('imported'); import colorsys")
    yield server
    server.close()


def test_what_a_module_is_given(server: ForkServer, folder: Path) -> None:
    """Catches input or arguments that are lost, lines of libraries taken for answers, and forks that see each other."""
    for given in ("first", "second"):
        found = server.answered("echo_module", 1, "b", given=given, cwd=folder, imports=[folder])
        assert found == [given, ["1", "b"], str(folder.resolve()), False, True]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", r"ended with 1; standard error:\nsaid before\nTraceback[^$]*ZeroDivisionError"),
        ("exits", r"ended with 3; standard error:\nsaid before"),
        ("killed", r"ended with -6; standard error:\nsaid before"),
        ("none", r"No module named '?none_module"),
    ],
)
def test_failures_show_what_was_said(server: ForkServer, folder: Path, name: str, said: str) -> None:
    """Catches a fork whose traceback nobody sees, and one that ends the server."""
    with pytest.raises(AssertionError, match=said):
        server.answered(f"{name}_module", imports=[folder])
    assert server.answered("echo_module", imports=[folder])[2] == str(ROOT)


@pytest.mark.skipif(sys.platform != "linux", reason="alarms kill there")
def test_a_fork_that_takes_too_long_is_killed(server: ForkServer, folder: Path) -> None:
    with pytest.raises(AssertionError, match="ended with -14"):
        server.answered("sleeps_module", imports=[folder], seconds=1)
