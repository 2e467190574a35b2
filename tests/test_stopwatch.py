"""Bounds of processor time."""

from __future__ import annotations

import time

import pytest

from tests.processes import printed
from tests.stopwatch import within

BUSY = "import time\nwhile time.process_time() < 0.4: pass"


def test_work_counts_here_and_in_children() -> None:
    """Catches a bound that nothing exceeds."""
    with pytest.raises(AssertionError, match=r"took 0\.\d seconds of the processor, and may take 0\.2"), within(0.2):
        exec(BUSY.replace("0.4", f"{time.process_time() + 0.4}"), {})
    with pytest.raises(AssertionError, match=r"and may take 0\.2"), within(0.2):
        printed("-c", BUSY)


def test_waiting_does_not_count() -> None:
    """Catches a bound that a busy machine exceeds."""
    with within(0.2):
        time.sleep(0.4)
