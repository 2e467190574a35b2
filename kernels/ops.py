"""Picks the operations' implementation: a module with the functions and constants of `kernels.cpu`."""

import functools
import logging
import os
import shutil
from types import ModuleType

import torch

OLDEST_TRITON = (3, 6)


def implementation(device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The module whose operations run on `device`, with activations in `dtype`.

    Raises ValueError, one line, for a device that has none, that is not there, or that lacks its software.
    """
    if device.type == "cpu":
        return _cpu(dtype)
    if device.type != "cuda" or torch.version.hip is not None:
        raise ValueError("preftree has kernels for CPUs and NVIDIA GPUs only; use device 'cpu'")
    _check_cuda(device)
    _check_triton()
    from preftree.kernels import cuda

    return cuda


def _cpu(dtype: torch.dtype) -> ModuleType:
    from preftree.kernels import avx512, cpu, isa

    if dtype != torch.bfloat16 or not isa.runs("avx512_bf16"):
        return cpu
    if obstacle := avx512.obstacle():
        _warn(f"bfloat16 runs at half its speed on this CPU: {obstacle}")
        return cpu
    return avx512


@functools.cache
def _warn(message: str) -> None:
    """Once."""
    logging.getLogger("preftree").warning(message)


def _check_cuda(device: torch.device) -> None:
    if torch.version.cuda is None:
        raise ValueError(f"this torch ({torch.__version__}) was built without CUDA; install torch's CUDA build")
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0] or "it says not why"
        raise ValueError(f"CUDA does not start ({reason}); install or update the NVIDIA driver") from None
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise ValueError(f"there are {count} CUDA devices, numbered from 0")


def _check_triton() -> None:
    needed = ".".join(map(str, OLDEST_TRITON))
    try:
        import triton
    except ImportError:
        raise ValueError(f"triton is not installed; pip install 'triton>={needed}', or use device 'cpu'") from None
    if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST_TRITON:
        raise ValueError(f"triton {triton.__version__} is too old; pip install 'triton>={needed}', or use device 'cpu'")
    # It builds the launchers of its kernels on the spot.
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        raise ValueError("triton needs a C compiler; install gcc, or set CC to one, or use device 'cpu'")
