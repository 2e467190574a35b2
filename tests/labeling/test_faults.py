"""Whatever happens to a run: the same bytes, a refusal, or rows that are judged again; never a mixed file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.processes import answered

pytest.importorskip("pyarrow.parquet")


def test_some_faults(tmp_path: Path) -> None:
    """Catches labels of two texts or two processors in one file, wherever a fault comes."""
    found = answered("-m", "tests.labeling.faults", tmp_path, 12, random.randrange(10**6))
    assert (found["other_bytes"], found["crashed"]) == (0, 0)


@pytest.mark.soak
def test_three_hundred_faults(tmp_path: Path) -> None:
    found = answered("-m", "tests.labeling.faults", tmp_path, 300, 0)
    kinds = ("kill", "broken_disk", "torn_part", "edit", "other_processor")
    assert sum(found[kind] for kind in kinds) == 300
    assert all(found[kind] > 20 for kind in (*kinds, "killed", "refused", "done"))
    assert (found["other_bytes"], found["crashed"]) == (0, 0)
