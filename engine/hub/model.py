"""A model of the hub: a directory with safetensors, tokenizer and configuration and nothing else, or a .gguf file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from preftree.engine.files import is_there, read_json
from preftree.engine.hub.download import download, listed, not_cached
from preftree.engine.hub.gguf_files import ENDING, GgufFiles
from preftree.engine.hub.repository import MAIN, MODEL, Repository, is_offline

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json")
_TEXT = ("config", "tokenizer", "chat_template", "generation_config", "special_tokens", "added_tokens", "preftree")
_ENDINGS = (".json", ".jinja", ".model")
_CHOICE = re.compile(r"\w[\w./-]*", re.ASCII)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


@dataclass(frozen=True)
class HubModel:
    """A model of the hub.

    Attributes:
        repository: where it is.
        choice: which of several `.gguf` files, see `GgufFiles.chosen`; None for safetensors, or the only such file.
    """

    repository: Repository
    choice: str | None = None

    @classmethod
    def parse(cls, spec: str) -> "HubModel | None":
        """From "org/name", "org/name@revision", each with ":Q4_K_M" or ":FILE.gguf" after it.

        None for what is there as a path, and for what is no name of the hub.
        """
        name, colon, choice = spec.partition(":")
        path = Path(spec).expanduser()
        if is_there(path) or (bool(colon) and not _CHOICE.fullmatch(choice)):
            return None
        if not colon and path.suffix.lower() in (ENDING, ".safetensors", ".json"):
            return None
        repository = Repository.parse(name, MODEL)
        return None if repository is None else cls(repository, choice or None)

    def __str__(self) -> str:
        return f"{self.repository}:{self.choice}" if self.choice else str(self.repository)

    def find(self, offline: bool) -> Path:
        """The directory with its files, or its .gguf file, downloaded where the cache lacks some. Raises ModelError."""
        found, names = self._known(offline)
        if self.choice is None and _is_whole(found.snapshot):
            wanted, path = [one.name for one in found.snapshot.iterdir() if one.is_file()], found.snapshot
        elif self.choice is None and not _is_gguf(names):
            if is_offline(offline):
                raise not_cached(self.repository)
            _download_directory(found, names)
            wanted, path = [one.name for one in found.snapshot.iterdir() if one.is_file()], found.snapshot
        else:
            ggufs = GgufFiles.of(self.repository, names)
            first = ggufs.chosen(self.choice)
            wanted, path = list(ggufs.models[first]), found.snapshot / first
            download(found, wanted)
        found.check_inside(wanted)
        return path

    def pinned(self, before: str | None, offline: bool) -> "HubModel":
        """At the commit, and with the file, that it stands for.

        before: the same of the run that is resumed, which still holds.
        """
        if self.repository.is_pinned:
            return self
        if before and (then := HubModel.parse(before)) and self._stood_for(then):
            return then
        found, names = self._known(offline)
        if self.choice is None and (_is_whole(found.snapshot) or not _is_gguf(names)):
            return HubModel(found)
        return HubModel(found, GgufFiles.of(self.repository, names).chosen(self.choice))

    def _known(self, offline: bool) -> tuple[Repository, Sequence[str]]:
        """The commit, and its files: those in the cache where these will do, else those on the hub."""
        cached = self.repository.cached()
        if cached is not None:
            paths = (path for path in cached.snapshot.rglob("*") if path.is_file())
            names = sorted(path.relative_to(cached.snapshot).as_posix() for path in paths)
            if self._is_among(cached, names):
                return cached, names
            if is_offline(offline) and (self.choice is None or GgufFiles.of(cached, names).meant(self.choice)):
                return cached, names
        if is_offline(offline):
            raise not_cached(self.repository)
        return listed(cached or self.repository)

    def _is_among(self, cached: Repository, names: Sequence[str]) -> bool:
        """Whether the cache has all of it. One file of several is known by its choice alone."""
        if self.choice is None:
            return _is_whole(cached.snapshot)
        return GgufFiles.of(self.repository, names).has_whole(self.choice)

    def _stood_for(self, then: "HubModel") -> bool:
        """Whether `then` is what this name may have stood for."""
        if self.repository != replace(then.repository, revision=MAIN) or not then.repository.is_pinned:
            return False
        if self.choice is None or then.choice is None:
            return self.choice is None
        return bool(GgufFiles.of(self.repository, [then.choice]).meant(self.choice))


def pinned_model(name: str, before: str | None, offline: bool) -> str:
    """`name` with what it stands for: "org/name@COMMIT"; a path, and what is no name, as it is.

    Args:
        name: as a user gives it.
        before: what this function has made of it for the run that is resumed, which still holds.
        offline: whether nothing may be downloaded.

    Raises:
        ModelError: there is no such model.
    """
    model = HubModel.parse(name)
    return name if model is None else str(model.pinned(before, offline))


def _is_text(name: str) -> bool:
    is_root = "/" not in name
    return is_root and name != _INDEX and name.endswith(_ENDINGS) and (name.startswith(_TEXT) or name in _TOKENIZERS)


def _is_whole(directory: Path) -> bool:
    """Whether a snapshot has all that it takes. Weights are downloaded last, so what has them has the rest."""
    return (
        (directory / _CONFIG).exists()
        and any((directory / name).exists() for name in _TOKENIZERS)
        and all((directory / name).exists() for name in _shards(directory))
    )


def _shards(directory: Path) -> set[str]:
    """The files that hold the weights."""
    if not (directory / _INDEX).exists():
        return {_WEIGHTS}
    entries = read_json(directory / _INDEX).get("weight_map")
    return {str(name) for name in entries.values()} if isinstance(entries, dict) else set()


def _download_directory(repository: Repository, names: Sequence[str]) -> None:
    """Everything but weights first, so that a snapshot with weights is whole. Raises ModelError."""
    _check_weights(repository, names)
    download(repository, [name for name in names if _is_text(name)])
    download(repository, [_INDEX] if _INDEX in names else [])
    shards = _shards(repository.snapshot)
    download(repository, [name for name in names if name in shards])


def _is_gguf(names: Sequence[str]) -> bool:
    """Whether a repository has no weights but .gguf files."""
    return not {_INDEX, _WEIGHTS}.intersection(names) and any(name.lower().endswith(ENDING) for name in names)


def _check_weights(repository: Repository, names: Sequence[str]) -> None:
    """ModelError for a repository without weights that are read."""
    if _INDEX in names or _WEIGHTS in names:
        return
    pickles = [name for name in names if PurePosixPath(name).suffix in _PICKLED]
    if pickles:
        why = (
            f"holds no safetensors but pickles ({pickles[0]}), which can run code and are never read; take another "
            "revision (refs/pr/N often has safetensors), or save it as safetensors with transformers"
        )
    else:
        why = f"holds no {_WEIGHTS}; it is no language model in the format of transformers"
    raise repository.error(f"{repository.name}: {why}")
