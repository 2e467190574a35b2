"""Repositories of the Hugging Face hub, and where the local cache keeps them. Needs no huggingface_hub."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from preftree.engine.errors import InputError, ModelError, PreftreeError

MODEL, DATASET = "model", "dataset"
MAIN = "main"
# "org/name" or "org/name@revision". Neither part may begin with a dot or a dash, so that ./x and ../x are paths.
NAME = r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?"

_NAME = re.compile(NAME, re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FOLDER = re.compile(r"models--(\w[\w.-]*?)--(\w[\w.-]*)", re.ASCII)
_TRUE = ("1", "on", "yes", "true")


@dataclass(frozen=True)
class Repository:
    """A revision of a repository.

    Attributes:
        kind: MODEL or DATASET.
        name: "org/name".
        revision: a branch, a tag, or a commit in full.
    """

    kind: str
    name: str
    revision: str = MAIN

    @classmethod
    def parse(cls, text: str, kind: str) -> "Repository | None":
        """From "org/name" or "org/name@revision"; None for what is no such name."""
        found = _NAME.fullmatch(text)
        return cls(kind, found["name"], found["revision"] or MAIN) if found and _is_safe(text) else None

    def __str__(self) -> str:
        return self.name if self.revision == MAIN else f"{self.name}@{self.revision}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which always names the same files."""
        return _COMMIT.fullmatch(self.revision) is not None

    @property
    def folder(self) -> Path:
        """In the cache."""
        return cache_directory() / f"{self.kind}s--{self.name.replace('/', '--')}"

    @property
    def snapshot(self) -> Path:
        """Of a commit, where the cache has its files, each a link to a blob."""
        return self.folder / "snapshots" / self.revision

    def at(self, commit: str) -> "Repository":
        """The same at another revision."""
        return replace(self, revision=commit)

    def cached(self) -> "Repository | None":
        """The commit that the cache has for this revision, None where there is none."""
        if self.is_pinned:
            return self if self.snapshot.is_dir() else None
        try:
            commit = (self.folder / "refs" / self.revision).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        found = self.at(commit)
        return found if found.is_pinned and found.snapshot.is_dir() else None

    def remember(self, commit: str) -> None:
        """Have the cache know the commit of this revision. Raises OSError."""
        if not self.is_pinned:
            ref = self.folder / "refs" / self.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit)

    def check_inside(self, names: Iterable[str]) -> None:
        """Raises `error` where a file of the snapshot is a link to outside of this repository's part of the cache."""
        inside = self.folder.resolve()
        for name in names:
            if not (self.snapshot / name).resolve().is_relative_to(inside):
                raise self.error(
                    f"{self.snapshot / name} is a link that leads out of the cache; remove it, and download it again"
                )

    def error(self, message: str) -> PreftreeError:
        """What to raise where this repository cannot be used."""
        return (ModelError if self.kind == MODEL else InputError)(message)


def cache_directory() -> Path:
    """Where huggingface_hub keeps what it downloads, by the variables that it obeys."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if own:
        return Path(own).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def is_offline(asked: bool) -> bool:
    """Whether nothing may be downloaded: because it was asked for, or by HF_HUB_OFFLINE."""
    return asked or os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def model_of_snapshot(path: Path) -> Repository | None:
    """The model whose snapshot in a cache this directory is, or holds this file; None for any other path."""
    parts = path.absolute().parts
    for place, part in enumerate(parts[:-2]):
        found = _FOLDER.fullmatch(part)
        if found and parts[place + 1] == "snapshots" and _COMMIT.fullmatch(parts[place + 2]):
            return Repository(MODEL, "/".join(found.groups()), parts[place + 2])
    return None


def _is_safe(text: str) -> bool:
    """The parts become names of folders."""
    return ".." not in text and "--" not in text and not text.endswith((".", "/", "-"))
