"""A model to load, in one object: sizes, tokenizer, chat template, and where its tensors come from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import ModelError
from preftree.engine.files import is_there, naming, read_json, sha256
from preftree.engine.gguf.embedded import embedded_file
from preftree.engine.gguf.tensors import GgufSource
from preftree.engine.tokenizer.chat import ChatTemplate
from preftree.engine.tokenizer.from_files import open_text_parts
from preftree.engine.tokenizer.tokenizer import Tokenizer
from preftree.engine.weights.safetensors import SafetensorsSource, TensorSource, check_complete


@dataclass(frozen=True)
class Checkpoint:
    """A model as `open_checkpoint` found it. No tensor has been read yet."""

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    weights: TensorSource
    files: tuple[Path, ...]

    def fingerprint(self) -> str:
        """sha256 in hexadecimal over names and contents of all files, some seconds a gigabyte."""
        total = hashlib.sha256()
        for path in sorted(self.files, key=lambda path: path.name):
            total.update(f"{path.name}\0{sha256(path)}\n".encode())
        return total.hexdigest()


def open_checkpoint(spec: str) -> Checkpoint:
    """Open "embedded", a Hugging Face directory, or a GGUF file.

    Cheap: headers and tokenizer only. ModelError when something is missing, broken, unsafe or not supported.
    """
    if spec == "embedded":
        return _open_gguf(embedded_file(), "embedded")
    path = Path(spec).expanduser()
    if path.is_dir():
        return _open_directory(path, path.resolve().name)
    if not is_there(path):
        raise ModelError(f'{spec}: no such file or directory; give "embedded", a directory or a .gguf file')
    if path.suffix.lower() != ".gguf":
        raise ModelError(f"{spec}: is no .gguf file; give one, or the directory that holds config.json")
    return _open_gguf(path, path.stem)


def _open_directory(directory: Path, name: str) -> Checkpoint:
    if not is_there(directory / "config.json"):
        ggufs = sorted(path.name for path in directory.glob("*.gguf"))
        hint = f"; name the file itself: {directory / ggufs[0]}" if ggufs else "; it is no Hugging Face model directory"
        raise ModelError(f"{directory}: holds no config.json{hint}")
    config = from_hf(read_json(directory / "config.json"), str(directory / "config.json"))
    weights = SafetensorsSource(directory)
    check_complete(weights, config, str(directory))
    texts = open_text_parts(directory)
    with naming(directory):
        texts.tokenizer.check_vocab(config)
    files = (directory / "config.json", *texts.files, *weights.files)
    return Checkpoint(name, config, texts.tokenizer, texts.chat_template, weights, files)


def _open_gguf(path: Path, name: str) -> Checkpoint:
    source = GgufSource(path)
    check_complete(source, source.config, str(path))

    with naming(path):
        bos, eos = source.bos_token, source.eos_token
        template = source.chat_template
        tokenizer = source.tokenizer()
        tokenizer.check_vocab(source.config)
        chat_template = None if template is None else ChatTemplate(template, bos, eos)
    return Checkpoint(name, source.config, tokenizer, chat_template, source, source.files)
