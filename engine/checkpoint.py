"""A model to load, in one object: sizes, tokenizer, chat template, and where its tensors come from."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.config.assumed import assumed
from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.config.multimodal import multimodal_of, text_config
from preftree.engine.config.quantization import quantization_of
from preftree.engine.errors import ModelError
from preftree.engine.files import advising, first_line, is_there, naming, read_json, sha256
from preftree.engine.gguf.embedded import embedded_file
from preftree.engine.gguf.parts import model_name
from preftree.engine.gguf.tensors import GgufSource
from preftree.engine.hub.model import HubModel
from preftree.engine.hub.repository import model_of_snapshot
from preftree.engine.tokenizer.chat import ChatTemplate
from preftree.engine.tokenizer.from_files import open_text_parts
from preftree.engine.tokenizer.tokenizer import Tokenizer
from preftree.engine.weights.names import expected_tensors, is_draft
from preftree.engine.weights.quantized.formats import format_of
from preftree.engine.weights.quantized.source import QuantizedSource
from preftree.engine.weights.safetensors import ADAPTER, SafetensorsSource, TensorSource, check_complete


@dataclass(frozen=True)
class Checkpoint:
    """A model as `open_checkpoint` found it. No tensor has been read yet.

    It pickles as `spec`, from which the other process opens it anew: files that are mapped and the tokenizer's library
    belong to a process.

    Attributes:
        name: what people call it.
        spec: what `open_checkpoint` takes, with an absolute path; None for a model that is in memory only.
        files: those that decide labels, for fingerprints.
        pooling_hint: how a reward read by transformers may differ, in one line; None where it is read from the last
            token, as here.
        skipped: tensors of a vision model beside it, which no text goes through, and of layers that draft tokens.
        notes: which of several files was read, and what was assumed where they say nothing, one line each.
        revision: the commit of a model from the Hugging Face hub.
    """

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    weights: TensorSource
    files: tuple[Path, ...]
    spec: str | None = None
    pooling_hint: str | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    revision: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.spec is None:
            raise ModelError(f"{self.name}: a model in memory cannot go to another process; save it, and load it there")
        return open_checkpoint, (self.spec,)

    def file_states(self) -> list[list[str | int]]:
        """Name, size in bytes and time of change in nanoseconds of every file. Raises ModelError."""
        try:
            found = sorted((path.name, path.stat()) for path in self.files)
        except OSError as error:
            raise ModelError(f"{self.name}: cannot be read ({error.strerror or first_line(error)})") from None
        return [[name, state.st_size, state.st_mtime_ns] for name, state in found]

    def fingerprint(self) -> str:
        """sha256 in hexadecimal over names and contents of all files, some seconds a gigabyte."""
        total = hashlib.sha256()
        for path in sorted(self.files, key=lambda path: path.name):
            total.update(f"{path.name}\0{sha256(path)}\n".encode())
        return total.hexdigest()


def open_checkpoint(spec: str, offline: bool = False) -> Checkpoint:
    """Open "embedded", a Hugging Face directory, a GGUF file (of a split one, any part), or a name of the hub.

    Cheap: headers and tokenizer only; but a model that is named as on the Hugging Face hub ("org/name",
    "org/name@revision", of several .gguf files "org/name:Q4_K_M") and is not in the cache is downloaded. A path that is
    there goes before a name.

    Args:
        spec: what to open.
        offline: nothing is downloaded.

    Raises:
        ModelError: something is missing, broken, unsafe or not supported.
    """
    if spec == "embedded":
        return _open_gguf(embedded_file(), "embedded", spec)
    model = HubModel.parse(spec)
    path = Path(spec).expanduser() if model is None else model.find(offline)
    if path.is_dir():
        with advising("download the model's own files again, or take a model that preftree runs (docs/models.md)"):
            return _open_directory(path)
    if not is_there(path):
        raise ModelError(
            f'{spec}: no such file or directory; give "embedded", a directory, a .gguf file, or a name on the Hugging '
            "Face hub (org/name)"
        )
    if path.suffix.lower() != ".gguf":
        raise ModelError(f"{spec}: is no .gguf file; give one, or the directory that holds config.json")
    with advising("use another file of the model, or its directory of safetensors"):
        return _open_gguf(path, model_name(path), str(path.absolute()))


def _open_directory(directory: Path) -> Checkpoint:
    if not is_there(directory / "config.json"):
        ggufs = sorted(path.name for path in directory.glob("*.gguf"))
        hint = f"; name the file itself: {directory / ggufs[0]}" if ggufs else "; it is no Hugging Face model directory"
        if is_there(directory / ADAPTER):
            hint = f" but {ADAPTER}: an adapter without its model; merge it into the model, and save that"
        raise ModelError(f"{directory}: holds no config.json{hint}")
    fields = read_json(directory / "config.json")
    config = from_hf(fields, str(directory / "config.json"))
    stored = SafetensorsSource(directory, multimodal_of(fields))
    weights = _dequantizing(stored, fields, config, directory)
    check_complete(weights, config, str(directory))
    texts = open_text_parts(directory)
    with naming(directory):
        texts.tokenizer.check_vocab(config)
    files = (directory / "config.json", *texts.files, *weights.files)
    code = "auto_map names Python code, which is never run: the model is taken for what its model_type says"
    default = assumed(fields.get("text_config") or fields, config)
    notes = (*texts.notes, *([code] if fields.get("auto_map") else []), *([default] if default else []))
    pooling = _pooling_hint(text_config(fields), texts.tokenizer) if config.is_reward_model else None
    hub = model_of_snapshot(directory)
    drafts = sorted(name for name in weights.names() if is_draft(config, name))
    return Checkpoint(
        name=directory.resolve().name if hub is None else hub.name,
        config=config,
        tokenizer=texts.tokenizer,
        chat_template=texts.chat_template,
        weights=weights,
        files=files,
        spec=str(directory.absolute()),
        pooling_hint=pooling,
        skipped=(*stored.skipped, *drafts),
        notes=notes,
        revision=None if hub is None else hub.revision,
    )


def _dequantizing(
    stored: SafetensorsSource, fields: dict[str, Any], config: ModelConfig, directory: Path
) -> TensorSource:
    """`stored` itself, or what makes plain matrices of it where config.json says that they are quantised."""
    quantization = quantization_of(fields)
    if quantization is None:
        return stored
    with naming(directory / "config.json"):
        format_ = format_of(quantization)
    return QuantizedSource(stored, format_, expected_tensors(config), str(directory))


def _pooling_hint(fields: dict[str, Any], tokenizer: Tokenizer) -> str | None:
    """transformers reads a reward from the last token that is not the pad token of config.json."""
    pad, eos = fields.get("pad_token_id"), fields.get("eos_token_id")
    if pad is None:
        return "config.json names no pad token, without which transformers scores one text at a time"
    if pad == tokenizer.eos_id or pad in (eos if isinstance(eos, list) else [eos]):
        return (
            f"pad token {pad!r:.20} is an end-of-sequence token: where a text ends with it, transformers reads the "
            "reward before it, and preftree after it"
        )
    return None


def _open_gguf(path: Path, name: str, spec: str) -> Checkpoint:
    source = GgufSource(path)
    check_complete(source, source.config, str(path))

    with naming(path):
        bos, eos = source.bos_token, source.eos_token
        template = source.chat_template
        tokenizer = source.tokenizer()
        tokenizer.check_vocab(source.config)
        chat_template = None if template is None else ChatTemplate(template, bos, eos)
    hub = model_of_snapshot(path)
    if hub is not None:
        name = f"{hub.name}:{path.name}"
    revision = None if hub is None else hub.revision
    return Checkpoint(name, source.config, tokenizer, chat_template, source, source.files, spec, revision=revision)
