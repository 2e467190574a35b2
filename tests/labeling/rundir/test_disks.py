"""Disks that are full, and directories that nobody may write to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import ANSWERS, Answers
from tests.labeling.fakes import FakeScorer, row, write_rows
from tests.labeling.rundir.runs import Failing, run
from tests.processes import printed

pytest.importorskip("pyarrow.parquet")


# Its arguments: input, output, the largest size of a file, and of a window.
FULL = """
import resource, sys
from pathlib import Path
from preftree.engine.errors import OutputError
from preftree.labeling.answers import writer
from tests.labeling.fakes import FakeScorer
from tests.labeling.rundir.runs import run

writer._SECONDS = 0.0
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    run(Path(sys.argv[1]), Path(sys.argv[2]), FakeScorer(window_tokens=int(sys.argv[4])))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("window_tokens", [200, 20_000], ids=["joining parts", "writing a part"])
def test_a_full_disk(window_tokens: int, tmp_path: Path) -> None:
    """Catches a traceback, half a part that is taken for one, and finished rows lost."""
    rows = [row(id=f"id {n}", prompt=f"Which of {n}? " * 9) for n in range(400)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out"
    # Without -B, a module that is compiled under the limit would be cut off for everybody who imports it later.
    said = printed("-B", "-c", FULL, source, out, 7000, window_tokens)
    assert "answers that are there are kept" in said
    assert "run the same command again" in said
    assert len(said.splitlines()) == 1
    kept = sum(1 for _ in Answers.open(out / ANSWERS).entries())
    assert kept > 10
    scorer = FakeScorer()
    run(source, out, scorer)
    assert sum(scorer.calls) == 2 * (400 - kept)


def test_a_read_only_directory(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback, and a model that is loaded for nothing."""
    (tmp_path / "out").mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=r"cannot write to .*out: Permission denied"):
        run(source, tmp_path / "out", Failing(0, AssertionError("the model was asked")))
