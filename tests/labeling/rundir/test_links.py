"""Nothing is written or removed through a link in a run's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from tests.labeling.fakes import FakeScorer
from tests.labeling.rundir.runs import labels, record, run, stopped

pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize("name", ["run.json", "labels.parquet", "answers"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_links_in_the_place_of_a_runs_files(name: str, overwrite: bool, source: Path, tmp_path: Path) -> None:
    """Catches files elsewhere that are written, or removed, through a link."""
    run(source, tmp_path / "other")
    before = {path: path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()}
    out = stopped(source, tmp_path / "out", 20)
    if (out / name).exists():
        (out / name).rename(tmp_path / "moved")
    (out / name).symlink_to(tmp_path / "other" / name)
    with pytest.raises(OutputError, match=rf"out/{name} is a link; remove it, or name another --out"):
        run(source, out, overwrite=overwrite)
    assert {path: path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()} == before


def test_a_link_that_comes_later_is_replaced(source: Path, tmp_path: Path, whole: bytes) -> None:
    """Catches labels or a record that are written through a link which is made while rows are judged."""
    out, precious = tmp_path / "out", tmp_path / "precious"
    precious.write_text("years of work")

    class Linking(FakeScorer):
        def score(self, encoded: Any) -> Any:
            for name in ("labels.parquet", "run.json"):
                (out / name).unlink(missing_ok=True)
                (out / name).symlink_to(precious)
            return super().score(encoded)

    run(source, out, Linking())
    assert precious.read_text() == "years of work"
    assert labels(out) == whole
    assert not (out / "labels.parquet").is_symlink()
    assert record(out)["state"] == "complete"
