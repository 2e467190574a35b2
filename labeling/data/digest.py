"""The sha256 of what is on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from preftree.engine.errors import InputError


def file_sha256(path: Path) -> str:
    """Raises InputError when the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
