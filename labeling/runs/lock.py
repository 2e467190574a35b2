"""One process at a time in a directory, or several workers of one run.

A process that has the directory to itself holds `lock` alone. Workers share it, and each holds `lock-I-of-N` alone.
The kernel drops the locks of a process that dies, however it dies.

`flock` is what is relied on: it works on local file systems and, between machines, on NFS where that forwards locks (as
Linux has done since 2.6.12). Where a file system has no locks at all, the error says so and nothing runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

from preftree.engine.errors import OutputError
from preftree.labeling.data.folder import Folder, LocalFolder, folder_of, kind_of

LOCK = "lock"
_WORKER = re.compile(r"lock-(\d+)-of-(\d+)")
# A look at a lock by `holder` holds it for an instant, too.
_TRIES, _PAUSE = 5, 0.05


class RunLock:
    """Held until `release`.

    Attributes:
        is_alone: whether no other process holds it, workers included.
    """

    def __init__(self, directory: Path, worker: str | None = None) -> None:
        """worker: such as "2/3". Raises OutputError where another process is in the way, and OSError."""
        self._directory = directory
        self._handles: list[int] = []
        self.is_alone = worker is None
        try:
            if worker is None:
                self._take_all()
                return
            self._take(LOCK, fcntl.LOCK_SH, f"{directory} is in use by")
            self._take(f"{LOCK}-{worker.replace('/', '-of-')}", fcntl.LOCK_EX, f"worker {worker} of {directory} is")
        except BaseException:
            self.release()
            raise

    def take_alone(self) -> bool:
        """A worker that is done tries to have the directory to itself. Where others are busy, it holds nothing more."""
        if not self.is_alone:
            self.release()
            try:
                self._take_all()
            except (OutputError, OSError):
                return False
            self.is_alone = True
        return True

    def release(self) -> None:
        while self._handles:
            os.close(self._handles.pop())

    def _take_all(self) -> None:
        """Files that workers have left are removed: none can be at work, as they share the lock."""
        self._take(LOCK, fcntl.LOCK_EX, f"{self._directory} is in use by")
        for path in _worker_files(self._directory):
            with suppress(OSError):
                path.unlink()

    def _take(self, name: str, kind: int, said: str) -> None:
        path = self._directory / name
        while True:
            handle = _opened(path, os.O_RDWR | os.O_CREAT)
            try:
                for left in reversed(range(_TRIES)):
                    if _locked(handle, kind):
                        break
                    if not left:
                        who = (name == LOCK and _workers(self._directory)) or _said_by(handle)
                        raise OutputError(f"{said} {who}; wait for it, or stop it and run this command again")
                    time.sleep(_PAUSE)
                if _is_at(handle, path):
                    break
                os.close(handle)  # its holder has removed it with a run that came to nothing
            except BaseException:
                os.close(handle)
                raise
        self._handles.append(handle)
        if kind == fcntl.LOCK_EX:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def holder(named: Path | Folder) -> str | None:
    """Who works in a directory at this moment: "process 123 on host", or workers, each so; None where nobody does.

    None, too, where nothing locks.
    """
    folder = folder_of(named)
    if not isinstance(folder, LocalFolder):
        return None
    return _holder(folder.path / LOCK) or _workers(folder.path)


def _workers(directory: Path) -> str | None:
    """ "worker 1/3 (process 123 on host), worker 2/3 (...)": those at work."""
    found = ((path, _holder(path)) for path in _worker_files(directory))
    named = (f"worker {path.name.removeprefix(LOCK + '-').replace('-of-', '/')} ({who})" for path, who in found if who)
    return ", ".join(named) or None


def _worker_files(directory: Path) -> list[Path]:
    """In the order of their numbers."""
    found = [(name, path) for path in directory.glob(f"{LOCK}-*") if (name := _WORKER.fullmatch(path.name))]
    return [path for name, path in sorted(found, key=lambda one: (int(one[0][2]), int(one[0][1])))]


def _holder(path: Path) -> str | None:
    """Who holds this lock alone."""
    try:
        handle = _opened(path, os.O_RDONLY)
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
