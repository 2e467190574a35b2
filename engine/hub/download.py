"""What the cache lacks, through huggingface_hub: imported where it is used, as it belongs to an extra."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from preftree.engine.errors import PreftreeError
from preftree.engine.files import first_line
from preftree.engine.hub.repository import Repository, cache_directory, is_offline

_LOGGER = logging.getLogger("preftree")
_PUBLIC = "https://huggingface.co"
_SECONDS = 10
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def listed(repository: Repository) -> tuple[Repository, tuple[str, ...]]:
    """The commit that a revision names, and its files. Raises PreftreeError."""
    hub = _library(repository)
    with _reaching(repository, f"no such file or directory here{_near(repository)}, and {_host()} cannot be reached"):
        found = hub.HfApi(endpoint=_host()).repo_info(
            repository.name, repo_type=repository.kind, revision=repository.revision, timeout=_SECONDS
        )
        repository.remember(found.sha)
    return repository.at(found.sha), tuple(sorted(one.rfilename for one in found.siblings or ()))


def resolved(repository: Repository, offline: bool) -> Repository:
    """The commit that a revision names: the cache's, else the hub's. Raises PreftreeError."""
    if (cached := repository.cached()) is not None:
        return cached
    if is_offline(offline):
        raise not_cached(repository)
    return listed(repository)[0]


def download(repository: Repository, names: Sequence[str]) -> None:
    """Have the cache hold these files of a commit; those that it has are not fetched again. Raises PreftreeError."""
    missing = [name for name in names if not (repository.snapshot / name).exists()]
    if not missing:
        return
    hub = _library(repository)
    _LOGGER.info(f"downloading {len(missing)} of {len(names)} files of {repository} into {cache_directory()}")
    for name in missing:
        with _reaching(repository, f"the download of {name} broke off"):
            hub.hf_hub_download(
                repository.name,
                name,
                repo_type=repository.kind,
                revision=repository.revision,
                cache_dir=cache_directory(),
                endpoint=_host(),
            )


def not_cached(repository: Repository) -> PreftreeError:
    """What to say where nothing may be downloaded."""
    return repository.error(
        f"{repository}: no such file or directory here{_near(repository)}, and not in the cache ({cache_directory()}), "
        "and nothing may be downloaded (--offline or HF_HUB_OFFLINE); run it once with the network, or copy its files "
        "here and name their directory"
    )


def _host() -> str:
    return (os.environ.get("HF_ENDPOINT") or _PUBLIC).rstrip("/")


def _library(repository: Repository) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise repository.error(
            f"{repository}: no such file or directory, and not in the cache ({cache_directory()}); to download it from "
            "the Hugging Face hub: pip install 'preftree[remote]'"
        ) from None
    return huggingface_hub


@contextmanager
def _reaching(repository: Repository, doing: str) -> Iterator[None]:
    """Whatever the library raises becomes one line."""
    try:
        yield
    except Exception as error:
        raise repository.error(f"{repository.name}: {_fault(repository, error, doing)}") from error


def _fault(repository: Repository, error: Exception, doing: str) -> str:
    from huggingface_hub import errors

    page = f"{_host()}/{'datasets/' if repository.kind == 'dataset' else ''}{repository.name}"
    log_in = "`hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return f"it is gated; accept its terms at {page}, and then log in with {log_in}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"there is no revision {repository.revision}; {page} lists its branches, tags and commits"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"no such file or directory here{_near(repository)}, and no {repository.kind} of that name at {_host()}; "
            f"check the name or, if it is private, log in with {log_in}"
        )
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"no room in {cache_directory()}; make some, or name another place with HF_HOME, and run it again"
    if isinstance(error, PermissionError):
        return f"cannot write to {cache_directory()}; name another place with HF_HOME"
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return (
        f"{doing} ({first_line(error).rstrip('.')}); run the same command again, which keeps what is there already, or "
        "download it elsewhere and name its directory"
    )


def _near(repository: Repository) -> str:
    """A path that may have been meant."""
    parent, _, last = repository.name.partition("/")
    try:
        names = os.listdir(parent)
    except OSError:
        return ""
    near = get_close_matches(last, names, 1)
    return f" (did you mean {Path(parent) / near[0]}?)" if near else ""
