"""What training needs beyond labelling: the extra preftree[train]."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec

from preftree.engine.errors import InputError

NEEDED = ("trl", "peft", "accelerate", "datasets", "transformers")
_REPORTERS = ("tensorboard", "wandb", "trackio")


def check_packages(report: str | None) -> None:
    """InputError with the command that installs what is missing."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise InputError(f"training needs {', '.join(missing)}: pip install 'preftree[train]'")
    if report in _REPORTERS and find_spec(report) is None:
        raise InputError(f"--report {report} needs that package: pip install {report}")


def versions() -> dict[str, str]:
    """Of what is installed, torch included."""
    return {name: metadata.version(name) for name in (*NEEDED, "torch")}


@contextmanager
def hushed() -> Iterator[None]:
    """Keeps their progress bars, advice and warnings from going between what preftree prints."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tokenizers are not used, and warn of forks
    from transformers.utils import logging as theirs

    for name in NEEDED:
        logging.getLogger(name).setLevel(logging.ERROR)
    theirs.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=rf"({'|'.join(NEEDED)}|torch)\b")
        yield
