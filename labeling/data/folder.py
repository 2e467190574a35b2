"""A folder of files that appear whole: a directory of this machine, or objects below a URL."""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from urllib.parse import unquote, urlsplit

from preftree.engine.errors import OutputError
from preftree.labeling import regular_file
from preftree.labeling.data.atomic import Draft, remove_drafts, sync_directory

FILE, DIRECTORY, LINK, MISSING = "a file", "a directory", "a link", "missing"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Folder(ABC):
    """Files by name. Methods raise OSError, FileNotFoundError for what is not there; `str` is its path or URL."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The last part of its name."""

    @abstractmethod
    def place(self, name: str) -> Path | str:
        """Where a file is: a path, or a URL for messages."""

    @abstractmethod
    def child(self, name: str) -> Folder:
        """A folder in it."""

    @abstractmethod
    def make(self) -> None:
        """Makes it where that is needed; the folder that it is in exists."""

    @abstractmethod
    def names(self, pattern: str) -> list[str]:
        """Of its files, sorted; none where there is no such folder."""

    @abstractmethod
    def kind(self, name: str) -> str:
        """FILE, DIRECTORY, LINK, MISSING, or what else it is."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of a file as they are now."""

    @abstractmethod
    def local(self, name: str) -> Path:
        """The file on this machine, itself or a copy. A copy is made once: for files that do not change any more."""

    @abstractmethod
    def draft(self, name: str) -> Draft:
        """A file to fill, which is in the folder once it is published and not before."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Nothing happens where the file is not there."""

    @abstractmethod
    def remove_drafts(self) -> None:
        """Those of killed processes, in a folder that nobody else writes to."""

    @abstractmethod
    def sync(self) -> None:
        """What was published and removed outlasts a crash of the machine."""

    def write(self, name: str, data: bytes) -> None:
        """A file, in the place of an older one."""
        draft = self.draft(name)
        try:
            draft.file.write(data)
            draft.seal()
            draft.publish()
        finally:
            draft.discard()
        self.sync()


class LocalFolder(Folder):
    """A directory. A file is complete and on disk before it is renamed to what it is called."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def title(self) -> str:
        return self.path.resolve().name

    def place(self, name: str) -> Path:
        return self.path / name

    def child(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)

    def make(self) -> None:
        self.path.mkdir(exist_ok=True)

    def names(self, pattern: str) -> list[str]:
        return sorted(path.name for path in self.path.glob(pattern))

    def kind(self, name: str) -> str:
        return kind_of(self.path / name)

    def read(self, name: str) -> bytes:
        return regular_file.read(self.path / name)

    def local(self, name: str) -> Path:
        return self.path / name

    def draft(self, name: str) -> Draft:
        return Draft(self.path / name)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def remove_drafts(self) -> None:
        remove_drafts(self.path)

    def sync(self) -> None:
        sync_directory(self.path)


def folder_of(named: str | Path | Folder) -> Folder:
    """A directory by its path, objects by their URL; PreftreeError where its file system cannot be opened."""
    if isinstance(named, Folder):
        return named
    if isinstance(named, Path) or not URL.match(named):
        return LocalFolder(Path(named))
    if named.lower().startswith("file://"):
        return LocalFolder(Path(unquote(urlsplit(named).path)))
    from preftree.labeling.data.remote_folder import RemoteFolder

    return RemoteFolder.open(named)


def file_or_folder(named: str) -> tuple[Folder, str | None]:
    """A folder and None, or for a file (there or not) its folder and its name in there. Raises PreftreeError."""
    folder = folder_of(named)
    if isinstance(folder, LocalFolder):
        return (folder, None) if folder.path.is_dir() else (LocalFolder(folder.path.parent), folder.path.name)
    base, mark, query = named.partition("?")
    above, _, name = base.rpartition("/")
    try:
        parent = folder_of(above + mark + query)
        return (parent, name) if parent.kind(name) == FILE else (folder, None)
    except OSError as error:
        raise OutputError(f"cannot read {named}: {error.strerror or error}") from error


def kind_of(path: Path) -> str:
    """What is at a path, links not followed."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    return LINK if stat.S_ISLNK(mode) else regular_file.kind_of(mode) or FILE
