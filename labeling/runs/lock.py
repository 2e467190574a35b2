"""One process at a time in a directory. The kernel drops the lock of a process that dies, however it dies.

`flock` is what is relied on: it works on local file systems and, between machines, on NFS where that forwards locks (as
Linux has done since 2.6.12). Where a file system has no locks at all, the error says so and nothing runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from pathlib import Path

from preftree.engine.errors import OutputError
from preftree.labeling.data.folder import Folder, LocalFolder, folder_of, kind_of

LOCK = "lock"
# A look at the lock by `holder` holds it for an instant, too.
_TRIES, _PAUSE = 5, 0.05


class RunLock:
    """Held until `release`."""

    def __init__(self, directory: Path) -> None:
        """Raises OutputError where another process holds it, and OSError."""
        path = directory / LOCK
        while True:
            self._handle = _opened(path, os.O_RDWR | os.O_CREAT)
            try:
                self._take(directory)
                if _is_at(self._handle, path):
                    os.ftruncate(self._handle, 0)
                    os.pwrite(self._handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                    return
            except BaseException:
                os.close(self._handle)
                raise
            os.close(self._handle)  # its holder has removed it with a run that came to nothing

    def release(self) -> None:
        os.close(self._handle)

    def _take(self, directory: Path) -> None:
        for left in reversed(range(_TRIES)):
            if _locked(self._handle, fcntl.LOCK_EX):
                return
            if left:
                time.sleep(_PAUSE)
        who = _said_by(self._handle)
        raise OutputError(f"{directory} is in use by {who}; wait for it, or stop it and run this command again")


def holder(named: Path | Folder) -> str | None:
    """Who works in a directory at this moment: "process 123 on host"; None where nobody does, or nothing locks."""
    folder = folder_of(named)
    if not isinstance(folder, LocalFolder):
        return None
    try:
        handle = _opened(folder.path / LOCK, os.O_RDONLY)
    except (OSError, OutputError):
        return None
    try:
        return None if _locked(handle, fcntl.LOCK_SH) else _said_by(handle)
    except OSError:  # no locks here: nobody could have taken one
        return None
    finally:
        os.close(handle)


def _opened(path: Path, flags: int) -> int:
    """Links are not followed, and a pipe is not waited for: what is written is a lock's file and nothing else."""
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _no_file(path) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _no_file(path)
    return handle


def _no_file(path: Path) -> OutputError:
    return OutputError(f"{path} is {kind_of(path)}, and must be a file; remove it, or name another directory")


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _locked(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _said_by(handle: int) -> str:
    return os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "another process"
