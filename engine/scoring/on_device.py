"""Work for the devices of a target: which is the current one, how products are computed, and what a failure says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from preftree.engine.device import Target
from preftree.engine.errors import DeviceError
from preftree.engine.memory import is_out_of_memory


@contextmanager
def on_device(target: Target) -> Iterator[None]:
    """Work for `target`: its device is the current one, and its products are exact. Raises as `device_errors`."""
    with ExitStack() as stack:
        stack.enter_context(device_errors(target))
        if target.device.type == "cuda":
            stack.enter_context(torch.cuda.device(target.device))
        stack.enter_context(target.ops.exact_products())
        yield


@contextmanager
def device_errors(target: Target) -> Iterator[None]:
    """DeviceError, one line, where a device fails for good. It names all of several: CUDA reports an error late."""
    try:
        yield
    except torch.AcceleratorError as error:
        if is_out_of_memory(error):
            raise
        names = ", ".join(f"'{device}'" for device in target.devices)
        said = str(error).partition("\n")[0]
        raise DeviceError(
            f"device {names} failed ({said}); what was finished is kept: look at the device with nvidia-smi, then run "
            "the same command again, which resumes"
        ) from None
