"""A folder of objects below a URL, on whatever pyarrow.fs or fsspec can open.

An upload that breaks off may leave half an object where a store does not promise better. Parts of answers are checked
by the checksum in their name, so that no list of whole ones is needed; labels count only once run.json says that the
run is complete. Nothing is locked.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

from preftree.engine.errors import InputError, PreftreeError
from preftree.labeling.data.atomic import Draft
from preftree.labeling.data.folder import DIRECTORY, FILE, MISSING, Folder
from preftree.labeling.data.inputs import detail_of, filesystem_of, missing_package, writing_copies

_COPIED_AT_A_TIME = 1 << 20


class RemoteFolder(Folder):
    """What is read or written has a copy in a temporary directory, which lasts as long as this object."""

    def __init__(self, url: str, system: Any, path: str, copies: Path, parent: RemoteFolder | None = None) -> None:
        """path: of the folder in `system`. copies: a directory; it is removed with the folder that has no parent."""
        self._url, self._system, self._path = url, system, path
        self._copies = copies
        self._parent = parent

    @classmethod
    def open(cls, url: str) -> RemoteFolder:
        """Raises PreftreeError."""
        try:
            system, path = filesystem_of(url)
        except ImportError as error:
            raise missing_package(url, error) from error
        except Exception as error:
            raise InputError(f"cannot open {url}: {detail_of(error)}") from error
        with writing_copies():
            copies = Path(mkdtemp(prefix="preftree-"))
        folder = cls(url.partition("?")[0].rstrip("/"), system, path.rstrip("/"), copies)
        finalize(folder, shutil.rmtree, copies, ignore_errors=True)
        return folder

    def __str__(self) -> str:
        return self._url

    @property
    def title(self) -> str:
        return self._url.rpartition("/")[2]

    def place(self, name: str) -> str:
        return f"{self._url}/{name}"

    def child(self, name: str) -> RemoteFolder:
        copies = self._copies / name
        with writing_copies():
            copies.mkdir(exist_ok=True)
        return RemoteFolder(self.place(name), self._system, self._at(name), copies, self)

    def make(self) -> None:
        """A folder is there once it has an object, see `_upload`."""

    def names(self, pattern: str) -> list[str]:
        from pyarrow import fs

        entries = self._look(fs.FileSelector(self._path, allow_not_found=True))
        names = (entry.base_name for entry in entries if entry.type == fs.FileType.File)
        return sorted(name for name in names if fnmatchcase(name, pattern))

    def kind(self, name: str) -> str:
        from pyarrow import fs

        [found] = self._look([self._at(name)])
        return {fs.FileType.NotFound: MISSING, fs.FileType.Directory: DIRECTORY}.get(found.type, FILE)

    def read(self, name: str) -> bytes:
        with _reached(), self._system.open_input_stream(self._at(name), compression=None) as stream:
            data: bytes = stream.read()
        return data

    def local(self, name: str) -> Path:
        path = self._copies / name
        if not path.exists():
            draft = Draft(path)
            try:
                self._download(name, draft)
            finally:
                draft.discard()
        return path

    def draft(self, name: str) -> Draft:
        return _Upload(self, self._copies / name)

    def remove(self, name: str) -> None:
        (self._copies / name).unlink(missing_ok=True)
        with _reached(), suppress(FileNotFoundError):
            self._system.delete_file(self._at(name))

    def remove_drafts(self) -> None:
        """There are none: drafts are on this machine."""

    def sync(self) -> None:
        """That is the store's to do."""

    def upload(self, path: Path) -> None:
        """A finished file of this machine, under its name. What a failure leaves of it is removed if it can be."""
        with _reached():
            try:
                self._copy(path, path.name)
            except FileNotFoundError:  # some file systems want a folder first
                self._with_folder(path)

    def _look(self, wanted: Any) -> Any:
        with _reached():
            with suppress(AttributeError):  # fsspec remembers what it has seen
                self._system.handler.fs.invalidate_cache()
            return self._system.get_file_info(wanted)

    def _with_folder(self, path: Path) -> None:
        try:
            self._system.create_dir(self._path, recursive=True)
            self._copy(path, path.name)
        except FileNotFoundError as error:
            raise OSError(detail_of(error)) from error

    def _copy(self, path: Path, name: str) -> None:
        with path.open("rb") as file:
            try:
                with self._system.open_output_stream(self._at(name), compression=None) as stream:
                    while chunk := file.read(_COPIED_AT_A_TIME):
                        stream.write(chunk)
            except BaseException:
                with suppress(Exception):
                    self._system.delete_file(self._at(name))
                raise

    def _download(self, name: str, draft: Draft) -> None:
        with _reached(), self._system.open_input_stream(self._at(name), compression=None) as stream:
            while chunk := stream.read(_COPIED_AT_A_TIME):
                with writing_copies():
                    draft.file.write(chunk)
        with writing_copies():
            draft.file.close()
            draft.publish()

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"


class _Upload(Draft):
    """A file on this machine, which goes to its folder when it is published."""

    def __init__(self, folder: RemoteFolder, final: Path) -> None:
        with writing_copies():
            super().__init__(final)
        self._folder = folder

    def seal(self) -> None:
        with writing_copies():
            self.file.close()

    def publish(self) -> None:
        super().publish()
        try:
            self._folder.upload(self.final)
        except BaseException:
            self.final.unlink()
            raise


@contextmanager
def _reached() -> Iterator[None]:
    """File systems raise what their libraries do: all of it becomes OSError, in one line."""
    try:
        yield
    except (FileNotFoundError, PreftreeError):
        raise
    except ImportError as error:
        raise InputError(f"a package is not installed: {detail_of(error)}") from error
    except Exception as error:
        raise OSError(detail_of(error)) from error
