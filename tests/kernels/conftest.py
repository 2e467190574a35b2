"""What several kernel tests set up."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def poisoned_allocations() -> Iterator[None]:
    """torch.empty returns NaN, so an output element that a kernel leaves out is seen."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
