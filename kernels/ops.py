"""Picks the operations' implementation by device: a module with the functions and constants of `kernels.cpu`."""

from types import ModuleType

import torch


def implementation(device: torch.device) -> ModuleType:
    """The module whose operations run on `device`. Raises ValueError for a device that has none."""
    if device.type == "cpu":
        from kernels import cpu

        return cpu
    raise ValueError(f"preftree has no kernels for device '{device}' yet; use device 'cpu'")
