"""Files that are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from preftree import ModelError
from tests.stopwatch import within


def assert_refused(read: Callable[[Path], object], path: Path, named: str) -> None:
    """Reading ends soon, in one line that names the file or folder and matches `named`."""
    with within(3), pytest.raises(ModelError) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert re.search(named, str(error.value)), str(error.value)
