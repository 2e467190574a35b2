"""The first steps of docs/reward-models.md, as they stand there, with a tiny base."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.models import SMALL_CONFIG, write_model
from tests.processes import ROOT, TRAINERS, printed

PAGE = (ROOT / "docs" / "reward-models.md").read_text(encoding="utf-8")


def run(directory: Path, *command: str) -> str:
    """What a process prints; it has the trainers, which lie beside the environment."""
    return printed(*command, imports=(ROOT, TRAINERS), cwd=directory)


@pytest.mark.skipif(not TRAINERS.is_dir(), reason="the trainers are not installed; see the Makefile")
def test_label_train_score_compare(tmp_path: Path) -> None:
    """Catches a step that the next one cannot take, and a reward model that transformers reads otherwise."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    write_model(tmp_path / "base", SMALL_CONFIG)
    (commands,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (compared,) = re.findall(r"^```py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = [shlex.split(line) for line in commands.splitlines()]
    assert [line[:2] for line in lines] == [["preftree", name] for name in ("label", "train", "reward")]
    for line in lines:
        run(tmp_path, "-m", "preftree", *line[1:])
    assert run(tmp_path, "-c", compared).startswith("transformers ")
    assert (tmp_path / "rm" / "README.md").is_file()
