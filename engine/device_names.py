"""The devices of one machine that share a model, by their names."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from preftree.engine.errors import InputError

# Of several devices: "0,1", or the same as a list.
Devices = str | Sequence[str | int | torch.device]


def named_devices(devices: Devices) -> list[torch.device]:
    """The devices of "0,1", "cuda:0,cuda:1" or "cpu,cpu", in this order.

    A CPU may be named more than once. Raises InputError, one line, for other kinds of devices, for GPUs that are named
    twice or not by number, that are not there, or that differ: their bits would, too.
    """
    parts = devices.split(",") if isinstance(devices, str) else [str(device) for device in devices]
    found = [_device(part.strip()) for part in parts]
    kinds = {device.type for device in found}
    if len(kinds) != 1:
        raise InputError(f"devices {_listed(parts)} are of several kinds; name GPUs only, such as 0,1")
    if kinds == {"cuda"}:
        _check_gpus(found)
    return found


def _device(name: str) -> torch.device:
    name = f"cuda:{name}" if name.isascii() and name.isdigit() else name
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and device.index is None):
        raise InputError(f"devices: {name!r} is none; name GPUs by their numbers, such as 0,1")
    return device


def _check_gpus(devices: Sequence[torch.device]) -> None:
    count = torch.cuda.device_count()
    for place, device in enumerate(devices):
        if device.index >= count:
            there = f"there are {count} GPUs, numbered from 0" if count else "torch sees no GPU; use device 'cpu'"
            raise InputError(f"devices: '{device}' is not there; {there}")
        if device in devices[:place]:
            raise InputError(f"devices: '{device}' is named twice; a GPU takes one part of the model")
    first, *others = [(_kind(device), device) for device in devices]
    for kind, device in others:
        if kind != first[0]:
            raise InputError(
                f"devices '{first[1]}' ({first[0]}) and '{device}' ({kind}) give other bits; use GPUs of one kind"
            )


def _kind(device: torch.device) -> str:
    """What bits depend on, as libraries choose their kernels by it."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)}, compute capability {major}.{minor}"


def _listed(names: Sequence[object]) -> str:
    return ", ".join(repr(str(name)) for name in names)
