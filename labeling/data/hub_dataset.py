"""Data sets by their names on the Hugging Face hub: "org/name", "org/name:split", "org/name@revision:config/split".

Only data files are read, never a loading script. Which files are which split follows the hub's own rules: what the
head of README.md says under `configs`, else the names of files and folders.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.engine.hub.download import download, listed, not_cached, resolved
from preftree.engine.hub.repository import DATASET, MAIN, NAME, Repository, is_offline
from preftree.labeling.data.source import PICKLED, File

_LOGGER = logging.getLogger("preftree")

Splits = Mapping[str, Mapping[str, Sequence[str]]]
"""By configuration and split, the names of its files."""

DEFAULT = "default"
_README = "README.md"
_NAME = re.compile(rf"({NAME})(?::(?:(?P<config>[\w.+-]+)/)?(?P<split>[\w.+-]+))?", re.ASCII)
_URL = re.compile(r"hf://datasets/([^/@]+/[^/@]+@[0-9a-f]{40})/(.+)")
_DATA = re.compile(r".*\.(parquet|jsonl|ndjson|json|csv|tsv|arrow)(\.gz|\.zst)?", re.IGNORECASE)
_NO_DATA = re.compile(r"(.*/)?(\..*|dataset_infos?\.json|dataset_dict\.json|state\.json|[\w-]*config\.json)")
_KEYWORDS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"}
_KEYWORDS |= {"dev": "validation", "val": "validation", "test": "test", "testing": "test", "eval": "test"}
_SHARD = re.compile(r"(.*)-(\d+)-of-(\d+)(\..*)")


@dataclass(frozen=True)
class HubDataset:
    """A split of a data set.

    Attributes:
        repository: where it is.
        config: None for the default one.
        split: None for the only one. Without `config` it may also be the name of a configuration.
    """

    repository: Repository
    config: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubDataset | None:
        """None for what is there as a path, for the name of a file, and for what is no name of the hub."""
        found = _NAME.fullmatch(text)
        if found is None or _DATA.fullmatch(text) or Path(text).exists():
            return None
        repository = Repository.parse(found[1], DATASET)
        return None if repository is None else cls(repository, found["config"], found["split"])

    def __str__(self) -> str:
        config = f"{self.config}/" if self.config else ""
        return f"{self.repository}:{config}{self.split}" if self.split else str(self.repository)

    def files(self, offline: bool) -> list[File]:
        """Those of the split, downloaded where the cache lacks them. Raises InputError."""
        cached = self.repository.cached()
        if is_offline(offline):
            if cached is None:
                raise not_cached(self.repository)
            return self._cached_files(cached)
        try:
            found, names = listed(cached or self.repository)
        except InputError as error:
            if cached is None:
                raise
            _LOGGER.warning(f"{error}; what the cache has of it is taken")
            return self._cached_files(cached)
        download(found, [_README] if _README in names else [])
        chosen = self._chosen(names, splits_of(names, _configs(found)))
        download(found, chosen)
        return self._made(found, chosen)

    def _cached_files(self, found: Repository) -> list[File]:
        paths = (path for path in found.snapshot.rglob("*") if path.is_file())
        names = sorted(path.relative_to(found.snapshot).as_posix() for path in paths)
        chosen = self._chosen(names, splits_of(names, _configs(found)), " in the cache")
        _check_shards(found, chosen)
        return self._made(found, chosen)

    def _made(self, found: Repository, chosen: Sequence[str]) -> list[File]:
        found.check_inside(chosen)
        return [
            File(found.snapshot / name, f"{self}/{name}" if len(chosen) > 1 else str(self), url_of(found, name))
            for name in chosen
        ]

    def pinned(self, before: str | None, offline: bool) -> HubDataset:
        """At the commit that it stands for. before: the same of the run that is resumed, whose commit still holds."""
        if self.repository.is_pinned:
            return self
        then = HubDataset.parse(before) if before else None
        if then and replace(then, repository=then.repository.at(MAIN)) == self:
            return then
        return replace(self, repository=resolved(self.repository, offline))

    def _chosen(self, names: Sequence[str], splits: Splits, where: str = "") -> Sequence[str]:
        """The files of the split. InputError where there is none, or where several could be meant.

        names: of all files of the repository.
        """
        name, config, split = self.repository.name, self.config, self.split
        if not splits:
            if pickles := [one for one in names if one.lower().endswith(PICKLED)]:
                raise InputError(
                    f"{name} has no data files but pickles ({pickles[0]}), which can run code and are never read; save "
                    "its rows as Parquet or JSONL"
                )
            raise InputError(
                f"{name} has no data files (Parquet, JSONL, CSV, Arrow){where}, and a loading script is never run; try "
                f"what the hub made of it: {name}@refs/convert/parquet"
            )
        if config is None and split in splits and not any(split in one for one in splits.values()):
            config, split = split, None
        if config is None:
            config = DEFAULT if DEFAULT in splits else next(iter(splits)) if len(splits) == 1 else None
        having = splits.get(config or "", {})
        if split is None and len(having) == 1:
            split = next(iter(having))
        if split not in having:
            wanted = f"no split {self}" if self.split or self.config else f"several splits in {self.repository}"
            keys = ((f"{key}/" if key != DEFAULT else "", entry) for key, entry in splits.items())
            ways = [f"{self.repository}:{key}{one}" for key, entry in keys for one in entry]
            raise InputError(f"{wanted}{where}; name one of {', '.join(ways[:20])}")
        assert split is not None
        return having[split]


def splits_of(names: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> Splits:
    """names: of all files of a repository. configs: those of its README.md."""
    data = [name for name in names if _DATA.fullmatch(name) and not _NO_DATA.fullmatch(name)]
    told = {}
    for config in configs:
        patterns = _patterns(config)
        found = {split: [name for name in data if _is_one(name, wanted)] for split, wanted in patterns.items()}
        if found := {split: files for split, files in found.items() if files}:
            told[DEFAULT if config.get("default") is True else str(config.get("config_name", DEFAULT))] = found
    if told or not data:
        return told
    by_split: dict[str, list[str]] = {}
    for name in _of_one_format(data):
        by_split.setdefault(_split_of(name), []).append(name)
    return {DEFAULT: by_split}


def cached_file(url: str) -> File | None:
    """What the cache has of a `url_of`; None where it has not, and for any other URL."""
    found = _URL.fullmatch(url)
    repository = Repository.parse(found[1], DATASET) if found else None
    if found is None or repository is None:
        return None
    path = repository.snapshot / found[2]
    if ".." in path.parts or not path.is_file():
        return None
    repository.check_inside([found[2]])
    return File(path, f"{repository.name}/{found[2]}", url)


def url_of(repository: Repository, name: str) -> str:
    """Of a file, as fsspec reads it."""
    return f"hf://datasets/{repository.name}@{repository.revision}/{name}"


def _configs(repository: Repository) -> Sequence[Mapping[str, Any]]:
    """What README.md says in its head, nothing where that cannot be read."""
    import yaml

    try:
        head = (repository.snapshot / _README).read_text(encoding="utf-8").split("---\n", 2)
        found = yaml.safe_load(head[1]) if len(head) == 3 and not head[0].strip() else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return ()
    configs = found.get("configs") if isinstance(found, dict) else None
    return [one for one in configs if isinstance(one, dict)] if isinstance(configs, list) else ()


def _patterns(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """By split, the patterns of a configuration, which may be one for all, a list of them, or entries with splits."""
    given = config.get("data_files")
    entries = given if isinstance(given, list) else [given] if given else []
    found: dict[str, list[str]] = {}
    for entry in entries:
        split, paths = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        found.setdefault(str(split), []).extend(map(str, paths if isinstance(paths, list) else [paths]))
    folder = str(config.get("data_dir") or "").strip("/")
    return {split: [f"{folder}/{one}" if folder else one for one in paths] for split, paths in found.items()}


def _is_one(name: str, patterns: Sequence[str]) -> bool:
    depth = name.count("/")
    return any(fnmatchcase(name, one) and ("**" in one or one.count("/") == depth) for one in patterns)


def _split_of(name: str) -> str:
    """By the word in the name of a file or folder that is one of the usual splits; train where there is none."""
    words = re.split(r"[^a-zA-Z]+", name.lower())
    return next((_KEYWORDS[word] for word in reversed(words) if word in _KEYWORDS), "train")


def _of_one_format(names: Sequence[str]) -> list[str]:
    """Those of the format that most have: a repository may hold its rows twice."""
    endings = [re.sub(r"\.(gz|zst)$", "", name.lower()).rpartition(".")[2] for name in names]
    most = max(sorted(set(endings)), key=lambda ending: (endings.count(ending), ending == "parquet"))
    return [name for name, ending in zip(names, endings, strict=True) if ending == most]


def _check_shards(repository: Repository, names: Sequence[str]) -> None:
    """InputError where the cache has some only of the files that their names count."""
    for name in names:
        if (found := _SHARD.fullmatch(name)) and (total := int(found[3])) > 1:
            have = sum(one.startswith(found[1]) and one.endswith(f"-of-{found[3]}{found[4]}") for one in names)
            if have < total:
                raise InputError(
                    f"the cache has {have} of the {total} files {found[1]}-*{found[4]} of {repository.name}; get the "
                    "others once with the network, without --offline"
                )
