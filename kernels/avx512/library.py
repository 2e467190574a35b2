"""The C++ sources beside this file as a shared library: compiled once for each version of them, then kept.

They use intrinsics for all arithmetic, and the compiler may not contract it: compilers agree about every bit.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from preftree.kernels import isa

_INSTRUCTIONS = (
    *("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512bf16", "avx512vnni", "fma"),
    *("amx-tile", "amx-bf16", "amx-int8"),
)
_FLAGS = ["-O3", "-std=c++17", "-w", "-fPIC", "-shared", "-ffp-contract=off", *(f"-m{name}" for name in _INSTRUCTIONS)]
_INT, _FLOAT, _POINTER, _BOOL = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p, ctypes.c_bool
_FUNCTIONS = {
    "attend": [_BOOL, *[_POINTER] * 7, _INT, _POINTER, *[_INT] * 3, _FLOAT, _FLOAT, _INT, _POINTER],
    "add_rms_norm": [*[_POINTER] * 3, _FLOAT, _POINTER, _INT, _INT],
    "add_layer_norm": [*[_POINTER] * 3, _FLOAT, _POINTER, _INT, _INT],
    "combine": [*[_POINTER] * 4, *[_INT] * 3],
    "rotate": [_POINTER, _INT, *[_POINTER] * 3, _FLOAT, _POINTER, _INT, _POINTER, *[_INT] * 4],
    "label_head": [_BOOL, _POINTER, _INT, _INT, _POINTER, _INT, _FLOAT, _POINTER, _POINTER, _INT, _POINTER, _POINTER],
    "token_logits": [_BOOL, _POINTER, _INT, _INT, _POINTER, _INT, _POINTER],
    "multiply_16": [_BOOL, _POINTER, _INT, _INT, _POINTER, _POINTER, _INT, _INT, _POINTER],
    "multiply_8": [_BOOL, _POINTER, _INT, _INT, _BOOL, *[_POINTER] * 4, _INT, _INT, _POINTER],
}
_COMPILERS = ("c++", "g++", "clang++")
_TIMEOUT_S = 300


def obstacle() -> str | None:
    """What keeps the library from running here, in words; None where nothing does. Compiles it."""
    return _load()[1]


@functools.cache
def prefers_amx() -> bool:
    """Which of two products the library is to use."""
    return isa.runs("amx")


def loaded() -> ctypes.CDLL:
    """Where there is no `obstacle`. Calls give up Python's lock."""
    found = _load()[0]
    assert found is not None
    return found


@functools.cache
def build() -> str:
    """Names sources and flags: libraries of the same name compute the same bits on the same instructions."""
    return hashlib.sha256("\0".join([*_FLAGS, *(path.read_text() for path in _sources())]).encode()).hexdigest()[:12]


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    if not (isa.runs("avx512_bf16") and isa.runs("avx512_vnni")):
        return None, "it needs avx512_bf16 and avx512_vnni"
    if sys.platform != "linux":
        return None, "it is for Linux"
    try:
        found = _opened(_folder() / f"avx512-{build()}.so")
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error).strip().partition("\n")[0]
    for name, arguments in _FUNCTIONS.items():
        function = getattr(found, f"preftree_{name}")
        function.argtypes, function.restype = arguments, None
    return found, None


def _sources() -> list[Path]:
    folder = Path(__file__).parent
    return [*sorted(folder.glob("*.cpp")), *sorted(folder.glob("*.h"))]


def _opened(kept: Path) -> ctypes.CDLL:
    if kept.is_file():
        try:
            return ctypes.CDLL(str(kept))
        except OSError:
            pass  # cut or damaged
    _compile(kept)
    return ctypes.CDLL(str(kept))


def _compile(out: Path) -> None:
    """Other processes may be at it, too."""
    compiler = _compiler()
    sources = [str(path) for path in _sources() if path.suffix == ".cpp"]
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=out.parent) as folder:
        fresh = Path(folder) / out.name
        made = subprocess.run(
            [compiler, *_FLAGS, *sources, "-o", str(fresh)], capture_output=True, text=True, timeout=_TIMEOUT_S
        )
        if made.returncode:
            said = next((line for line in made.stderr.splitlines() if "error" in line), "it says not why")
            raise OSError(f"{compiler} does not compile it ({said}); install a newer g++ or clang++")
        fresh.replace(out)


def _compiler() -> str:
    for name in filter(None, (os.environ.get("CXX"), *_COMPILERS)):
        if found := shutil.which(name):
            return found
    raise OSError("there is no C++ compiler; install g++, or set CXX to one")


def _folder() -> Path:
    """Nobody else may write to it: what is in it is run."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preftree"
    try:
        kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = kept.stat()
        if about.st_uid == os.getuid() and not about.st_mode & 0o022 and os.access(kept, os.W_OK):
            return kept
    except (OSError, RuntimeError):
        pass
    return Path(_temporary().name)


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """For this process alone. Deleted when it ends."""
    return tempfile.TemporaryDirectory(prefix="preftree-")


def address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
