"""The command line with a fake model behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from preftree.labeling.runs import job, plan, run, show
from tests.labeling.fakes import FakeScorer, open_fake_method, row, write_rows
from tests.models import SMALL_CONFIG, write_model


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> FakeScorer:
    """What all commands get for a model from now on."""
    fake = FakeScorer()
    for module in (plan, run, show):
        monkeypatch.setattr(module, "load_judge", lambda options, weights=True: fake)
    for module in (job, plan, run, show):
        monkeypatch.setattr(module, "open_method", open_fake_method)
    return fake


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", [row(id="one", gold="a", source="web"), row(id="two")])


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))
