"""Small models as fixtures."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import SMALL_CONFIG, write_model


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors are so small that threads would wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for judging prompts."""
    return write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny")


@pytest.fixture
def edit_json(model_dir: Path) -> Callable[..., None]:
    """Change keys of a JSON file in `model_dir`; a value of `...` removes the key."""

    def edit(name: str, **changes: Any) -> None:
        path = model_dir / name
        value = json.loads(path.read_text(encoding="utf-8")) | changes
        kept = {key: item for key, item in value.items() if item is not ...}
        path.write_text(json.dumps(kept), encoding="utf-8")

    return edit
