"""What ends training before its time."""

from __future__ import annotations

from preftree.engine.errors import InputError


class NotFiniteError(InputError):
    """A loss or gradient that is not a number."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch, on a GPU or a CPU, or Python had no more memory."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
