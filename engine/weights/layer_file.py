"""Layers in a file, for a CPU: packed once, read into memory again layer by layer while others are computed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from preftree.engine.errors import InputError, ModelError
from preftree.engine.files import first_line
from preftree.engine.weights.matrices import memory_of

Shapes = tuple[tuple[torch.Size, torch.dtype, bool], ...]
# Large files that need not be kept go here rather than to /tmp, which may be memory (Filesystem Hierarchy Standard).
_TEMPORARY = "/var/tmp"


class LayerFile:
    """A `LayerStore` over a temporary file without a name, which is gone when the process is, however that ends.

    A thread reads; it copies into memory of the slot that the kernels' layouts were made for, so nothing is packed
    again. What the system keeps of the file in its cache is not this process's memory.
    """

    # Of a CPU's forward pass, which is in two layers at once.
    slots = 3

    def __init__(self, most_bytes: int) -> None:
        """most_bytes: that the layers take, about. InputError where the disk has not as much room."""
        self._folder = _folder()
        free = shutil.disk_usage(self._folder).free
        if free < most_bytes:
            raise InputError(
                f"streamed layers take {most_bytes / 1e9:.1f} GB on disk, and {self._folder} has {free / 1e9:.1f} GB "
                "free; free some of it, or set TMPDIR to a directory with more"
            )
        self._file = tempfile.TemporaryFile(dir=self._folder, prefix="preftree-", buffering=0)  # noqa: SIM115  kept open
        self._places: list[int] = []
        self._shapes: list[Shapes] = []
        self._slots: list[dict[Shapes, list[torch.Tensor]]] = [{} for _ in range(self.slots)]
        self._reading: list[Future[None] | None] = [None] * self.slots
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="preftree layers")

    def add(self, matrices: Sequence[torch.Tensor]) -> None:
        shapes = tuple((matrix.shape, matrix.dtype, matrix.is_mkldnn) for matrix in matrices)
        for slot in self._slots:
            if shapes not in slot:
                slot[shapes] = [matrix.clone() for matrix in matrices]
        self._places.append(os.fstat(self._file.fileno()).st_size)
        self._shapes.append(shapes)
        try:
            for matrix in matrices:
                _write(self._file.fileno(), memory_of(matrix))
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise InputError(f"streamed layers cannot be written to {self._folder} ({reason}); set TMPDIR") from None

    def open(self) -> None:
        pass

    def begin(self, layer: int, slot: int) -> None:
        self._reading[slot] = self._reader.submit(self._fill, layer, slot)

    def matrices(self, layer: int, slot: int) -> list[torch.Tensor]:
        reading = self._reading[slot]
        assert reading is not None
        reading.result()
        return self._slots[slot][self._shapes[layer]]

    def free(self, slot: int) -> None:
        """What was computed is computed."""

    def _fill(self, layer: int, slot: int) -> None:
        place = self._places[layer]
        for matrix in self._slots[slot][self._shapes[layer]]:
            memory = memory_of(matrix)
            _read(self._file.fileno(), memory, place, self._folder)
            place += len(memory)


def _folder() -> str:
    """TMPDIR where it is set; else where large files belong, if there is such a place."""
    is_usable = os.access(_TEMPORARY, os.W_OK | os.X_OK)
    return _TEMPORARY if is_usable and not os.environ.get("TMPDIR") else tempfile.gettempdir()


def _write(file: int, memory: memoryview) -> None:
    while memory:
        memory = memory[os.write(file, memory) :]


def _read(file: int, memory: memoryview, place: int, folder: str) -> None:
    """Fill `memory` from `place` on. ModelError where that fails."""
    while memory:
        try:
            count = os.preadv(file, [memory], place)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise ModelError(f"streamed layers cannot be read from {folder} again ({reason})") from None
        if not count:
            raise ModelError(f"streamed layers in {folder} have become shorter")
        memory, place = memory[count:], place + count
