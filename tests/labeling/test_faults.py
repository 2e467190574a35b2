"""Whatever happens to a run: the same bytes, a refusal, or rows that are judged again; never a mixed file."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).parents[2]


def met(directory: Path, moments: int, seed: int) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.labeling.faults", str(directory), str(moments), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_some_faults(tmp_path: Path) -> None:
    """Catches labels of two texts or two processors in one file, wherever a fault comes."""
    found = met(tmp_path, 12, seed=random.randrange(10**6))
    assert (found["other_bytes"], found["crashed"]) == (0, 0)


@pytest.mark.soak
def test_three_hundred_faults(tmp_path: Path) -> None:
    found = met(tmp_path, 300, seed=0)
    kinds = ("kill", "broken_disk", "torn_part", "edit", "other_processor")
    assert sum(found[kind] for kind in kinds) == 300
    assert all(found[kind] > 20 for kind in (*kinds, "killed", "refused", "done"))
    assert (found["other_bytes"], found["crashed"]) == (0, 0)
