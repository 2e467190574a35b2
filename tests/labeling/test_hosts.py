"""What answers were computed on is in their parts, and a mixture of hardware is noticed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.answers.host import host_of, kind_of
from preftree.labeling.runs.status import status_lines
from tests.labeling.fakes import FakeScorer
from tests.labeling.rundir.runs import run
from tests.labeling.test_workers import source, whole, work

__all__ = ["source", "whole"]


def mixed(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of two workers, the second on another processor."""
    work(source, out, "1/2")
    other = {"node": "b", "arithmetic": "other"}
    monkeypatch.setattr("preftree.labeling.runs.directory.host_of", lambda record: {**host_of(record), **other})
    work(source, out, "2/2")
    monkeypatch.undo()


def test_parts_say_what_they_ran_on(source: Path, tmp_path: Path) -> None:
    """Catches a part without device, versions and node, and one that loses them when parts are joined."""
    run(source, tmp_path / "out", FakeScorer(window_tokens=200))
    [attempt] = Answers.open(tmp_path / "out" / ANSWERS).attempts()
    assert {"node", "machine", "device", "dtype", "threads", "arithmetic", "versions"} <= attempt.host.keys()
    assert attempt.host["versions"]["fake"] == "1"
    assert attempt.host["versions"].keys() >= {"preftree", "python", "pyarrow"}


def test_another_node_of_the_same_kind_is_no_other_kind() -> None:
    """Catches a warning for each node, each card and each number of threads."""
    host: dict[str, Any] = {
        "node": "a",
        "device": "cuda:0",
        "device_name": "H200",
        "threads": 1,
        "versions": {"x": "1"},
    }
    assert kind_of(host) == kind_of({**host, "node": "b", "device": "cuda:1", "threads": 2})
    assert kind_of(host) != kind_of({**host, "device_name": "A100"})
    assert kind_of(host) != kind_of({**host, "versions": {"x": "2"}})


def test_a_mixture_is_said(
    source: Path,
    tmp_path: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Catches labels of two processors that pass for those of one, and --same-hardware without effect."""
    caplog.set_level(logging.INFO, "preftree")
    out = tmp_path / "out"
    mixed(source, out, monkeypatch)
    said = "answers come from 2 kinds of hardware or software"
    assert f"{said}, whose bits may differ: as the others (30 rows); arithmetic other (30 rows)" in caplog.text
    with pytest.raises(OutputError, match=f"{said}: .*--same-hardware asks for one: judge the rows again"):
        run(source, out, same_hardware=True)
    lines = "\n".join(status_lines(out))
    assert "by 2 processes on 2 nodes" in lines
    assert "b: 30 rows, the last " in lines
