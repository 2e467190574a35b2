"""A model of the hub as a directory: weights in safetensors, tokenizer and configuration, and nothing else."""

from pathlib import Path, PurePosixPath

from preftree.engine.files import is_there, read_json
from preftree.engine.hub.download import download, listed, not_cached, resolved
from preftree.engine.hub.repository import MODEL, Repository, is_offline

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json")
_TEXT = ("config", "tokenizer", "chat_template", "generation_config", "special_tokens", "added_tokens", "preftree")
_ENDINGS = (".json", ".jinja", ".model")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


def find_model(repository: Repository, offline: bool) -> Path:
    """The directory with the files of a model, downloaded where the cache lacks some. Raises ModelError."""
    cached = repository.cached()
    if cached is not None and _is_whole(cached.snapshot):
        cached.check_inside(path.name for path in cached.snapshot.iterdir() if path.is_file())
        return cached.snapshot
    if is_offline(offline):
        raise not_cached(repository)
    found, names = listed(cached or repository)
    _check_weights(found, names)
    download(found, [name for name in names if _is_text(name)])
    download(found, [_INDEX] if _INDEX in names else [])
    shards = _shards(found.snapshot)
    download(found, [name for name in names if name in shards])
    found.check_inside(path.name for path in found.snapshot.iterdir() if path.is_file())
    return found.snapshot


def pinned_model(name: str, before: str | None, offline: bool) -> str:
    """`name` with the commit that it stands for: "org/name@COMMIT"; a path, and what is no name, as it is.

    Args:
        name: as a user gives it.
        before: what this function has made of it for the run that is resumed; its commit still holds.
        offline: whether nothing may be downloaded.

    Raises:
        ModelError: there is no such model.
    """
    repository = model_repository(name)
    if repository is None or repository.is_pinned:
        return name
    if before is not None and before.startswith(f"{name}@"):
        return before
    return str(resolved(repository, offline))


def model_repository(spec: str) -> Repository | None:
    """The model that `spec` names; None for what is there as a path, and for what is no name of the hub."""
    path = Path(spec).expanduser()
    if is_there(path) or path.suffix.lower() in (".gguf", ".safetensors", ".json"):
        return None
    return Repository.parse(spec, MODEL)


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


def _check_weights(repository: Repository, names: tuple[str, ...]) -> None:
    """ModelError for a repository without weights that are read."""
    if _INDEX in names or _WEIGHTS in names:
        return
    ggufs = [name for name in names if name.endswith(".gguf")]
    pickles = [name for name in names if PurePosixPath(name).suffix in _PICKLED]
    if ggufs:
        why = f"holds no {_WEIGHTS} but .gguf files; download one ({ggufs[0]}) and name that file"
    elif pickles:
        why = (
            f"holds no safetensors but pickles ({pickles[0]}), which can run code and are never read; take another "
            "revision (refs/pr/N often has safetensors), or save it as safetensors with transformers"
        )
    else:
        why = f"holds no {_WEIGHTS}; it is no language model in the format of transformers"
    raise repository.error(f"{repository.name}: {why}")
