"""The step of the evidence run that runs the tests which need a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu import suite
from benchmarks.gpu.report import Section

TESTS = """
import time
import pytest
pytestmark = pytest.mark.gpu

def test_passes(): pass

def test_fails(): assert False, "first line\\nsecond line"

def test_is_skipped(): pytest.skip("not here")

@pytest.fixture
def broken(): raise ValueError("a broken fixture")

def test_breaks(broken): pass

def test_hangs(): time.sleep({seconds})
"""


def outcomes_of(directory: Path, seconds: float, limit: float) -> Section:
    """The tests above under the command of the step."""
    written = directory / "outcomes.jsonl"
    written.write_text("")
    (directory / "test_it.py").write_text(TESTS.format(seconds=seconds), encoding="utf-8")
    (directory / "test_lost.py").write_text("import no_such_module\n", encoding="utf-8")
    command = suite.command_for([str(directory / "test_lost.py"), str(directory / "test_it.py")], 0)
    with (directory / "log.txt").open("w") as log:
        ended = suite.run_tests(command, log.fileno(), limit, written)
    return suite.section_of(suite.records(written.read_text(encoding="utf-8")), ended, [])


@pytest.mark.parametrize(("seconds", "limits"), [(0, (60.0,)), (60, (2.5, 20.0))])
def test_failures_are_named_even_where_the_run_is_cut_off(
    tmp_path: Path, seconds: float, limits: tuple[float, ...]
) -> None:
    for limit in limits:  # on a busy machine the first is over before the test that hangs
        section = outcomes_of(tmp_path, seconds, limit)
        if section.data["outcomes"].get("error") == 2:
            break
    assert section.is_cut == (seconds > limit)
    passed = {"passed": 1 if section.is_cut else 2}
    assert section.data["outcomes"] == {"failed": 1, "skipped": 1, "error": 2} | passed
    rows = {row[0].strip("`").rpartition("/")[2]: row[1:] for row in section.tables[0].rows}
    assert rows["test_it.py::test_fails"] == ["failed", "`AssertionError: first line`"]
    assert rows["test_it.py::test_breaks"] == ["error", "`ValueError: a broken fixture`"]
    assert "no_such_module" in rows["test_lost.py"][1]
    assert section.measured[0].value == 3


def test_a_run_of_tests_that_breaks_as_a_whole_is_no_success() -> None:
    (measured,) = suite.section_of([{"test": "a", "outcome": "passed", "reason": ""}], "exit code 3", []).measured
    assert measured.value == 1
    (cut,) = suite.section_of([], "cut off after 3 s", []).measured
    assert cut.value is None
    assert suite.records('{"test": "a"}\n{"test": "b", "outc') == [{"test": "a"}]
    assert "tests/kernels/test_triton_attention.py" in suite.marked_files()
