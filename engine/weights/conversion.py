"""Stored numbers as the tensor that a model multiplies with: checked, rounded once, and in slices, to save memory."""

from collections.abc import Iterable

import torch

from preftree.engine.errors import InputError, ModelError


def check_finite(tensor: torch.Tensor, name: str, origin: str) -> torch.Tensor:
    """`tensor` itself; ModelError when it holds NaN or infinity. Runs where the tensor lies."""
    low, high = torch.aminmax(tensor)  # carries NaN along, and needs no temporary of the tensor's size
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise ModelError(f"{origin}: tensor {name} holds NaN or infinity; download the model again")
    return tensor


def joined(
    slices: Iterable[torch.Tensor],
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
    name: str,
    origin: str,
) -> torch.Tensor:
    """The tensor of `shape` whose numbers the slices hold, one slice after the other; they exist one at a time.

    ModelError when a slice is not finite everywhere, InputError when one holds what `dtype` does not.
    """
    whole = torch.empty(shape, dtype=dtype, device=device)
    flat, first = whole.view(-1), 0
    for stored in slices:
        part = flat[first : first + stored.numel()]
        part.copy_(check_finite(stored.to(device), name, origin).reshape(-1))
        check_range(part, name, stored.dtype)
        first += stored.numel()
    return whole


def check_range(tensor: torch.Tensor, name: str, stored: torch.dtype) -> torch.Tensor:
    """`tensor` itself. InputError when it holds what became infinity on the way from the type it is stored in."""
    if torch.finfo(stored).max > torch.finfo(tensor.dtype).max:
        low, high = torch.aminmax(tensor)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            dtype, most = str(tensor.dtype).removeprefix("torch."), torch.finfo(tensor.dtype).max
            other = "bfloat16 or float32" if tensor.dtype == torch.float16 else "float32"
            raise InputError(f"tensor {name} holds values beyond {dtype}'s range ({most:,.6g}); use dtype {other}")
    return tensor
