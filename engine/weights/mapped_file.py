"""A file mapped into memory, of which nothing stays resident but what is being read."""

import mmap
import os
from pathlib import Path

from preftree.engine.errors import ModelError
from preftree.engine.files import first_line, opened


class MappedFile:
    """Read-only, though its buffers are writable, as torch asks for: the mapping is private."""

    def __init__(self, path: Path) -> None:
        """ModelError when the file cannot be mapped."""
        self._path = path
        try:
            with opened(path) as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except ValueError:
            raise ModelError(f"{path}: is empty; download it again") from None

    def view(self, begin: int, end: int) -> memoryview:
        """The bytes from `begin` to `end`, in place; no view may outlive `close`. ModelError if they are gone."""
        try:
            size = os.stat(self._path).st_size
        except OSError as error:
            raise ModelError(f"{self._path}: cannot be read ({error.strerror or first_line(error)})") from None
        if end > min(size, len(self._map)):
            raise ModelError(f"{self._path}: has become shorter since it was opened; download it again")
        return memoryview(self._map)[begin:end]

    def release(self, begin: int, end: int) -> None:
        """Let the pages of these bytes go: they would count as memory of this process until the file is closed."""
        first = begin // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, end - first)

    def close(self) -> None:
        self._map.close()
