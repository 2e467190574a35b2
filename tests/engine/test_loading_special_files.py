"""Pipes, devices, sockets, directories and links to nowhere in the place of a model's files."""

import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.files import opened
from preftree.engine.weights.mapped_file import MappedFile
from preftree.engine.weights.safetensors_check import read_entries
from tests.engine.gguf_files import add_byte_tokenizer, write_gguf
from tests.engine.sentencepiece_files import trained
from tests.models import write_model


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A test that waits for ever fails instead."""

    def late(*_: object) -> None:
        raise TimeoutError("waited for a file that is none")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def bound_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


PLACED: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": bound_socket,
    "directory": os.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "leads nowhere": lambda path: path.symlink_to("gone"),
}


@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"],
)
def test_special_files_of_a_directory_are_refused(model_dir: Path, name: str, kind: str) -> None:
    """Catches a run that waits for ever, and one whose prompts become plain as its chat template has gone."""
    (model_dir / name).unlink(missing_ok=True)
    PLACED[kind](model_dir / name)
    with pytest.raises(ModelError, match=rf"{re.escape(name)}: is (no file but )?a .*{kind}") as error:
        open_checkpoint(str(model_dir))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", PLACED)
@pytest.mark.parametrize("name", ["tokenizer.model", "added_tokens.json"])
def test_special_files_of_sentencepiece_are_refused(model_dir: Path, name: str, kind: str) -> None:
    """As above, for the files that are read where there is no tokenizer.json."""
    (model_dir / "tokenizer.json").unlink()
    trained(model_dir / "tokenizer.model")
    (model_dir / name).unlink(missing_ok=True)
    PLACED[kind](model_dir / name)
    with pytest.raises(ModelError, match=rf"{re.escape(name)}: is (no file but )?a .*{kind}"):
        open_checkpoint(str(model_dir))


@pytest.mark.parametrize("kind", [kind for kind in PLACED if kind != "directory"])
def test_special_gguf_files_are_refused(tmp_path: Path, kind: str) -> None:
    """As above, for the one file."""
    path = tmp_path / "model.gguf"
    PLACED[kind](path)
    with pytest.raises(ModelError, match=rf"model\.gguf: is (no file but )?a .*{kind}"):
        open_checkpoint(str(path))


@pytest.mark.parametrize("read", [MappedFile, read_entries, lambda path: opened(path).__enter__()])
def test_weights_are_not_waited_for_either(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """Catches a pipe in the place of a shard that is opened later."""
    os.mkfifo(tmp_path / "shard")
    with pytest.raises(ModelError, match="is no file but a pipe"):
        read(tmp_path / "shard")


def test_fingerprints_do_not_wait(model_dir: Path) -> None:
    """Catches a file that was replaced after it was opened, before it is hashed."""
    checkpoint = open_checkpoint(str(model_dir))
    (model_dir / "tokenizer_config.json").unlink()
    os.mkfifo(model_dir / "tokenizer_config.json")
    with pytest.raises(ModelError, match="is no file but a pipe"):
        checkpoint.fingerprint()


def test_links_to_files_are_followed(model_dir: Path, tmp_path: Path) -> None:
    """Catches models of a hub's cache, which are links, being refused; and links that lead in circles, accepted."""
    cache = tmp_path / "blobs"
    cache.mkdir()
    for path in list(model_dir.iterdir()):
        shutil.move(path, cache / path.name)
        path.symlink_to(cache / path.name)
    assert open_checkpoint(str(model_dir)).chat_template is not None
    (model_dir / "chat_template.jinja").symlink_to("chat_template.jinja")
    with pytest.raises(ModelError, match=r"chat_template\.jinja: cannot be read"):
        open_checkpoint(str(model_dir))


def test_a_gguf_template_that_is_none_is_refused(tmp_path: Path) -> None:
    """Catches prompts that become plain in silence because the chat template is no text."""

    def add_tokenizer(writer: Any, directory: Path) -> None:
        add_byte_tokenizer(writer, directory)
        writer.add_uint32("tokenizer.chat_template", 7)

    path = write_gguf(tmp_path / "model.gguf", write_model(tmp_path / "hf"), tokenizer=add_tokenizer)
    with pytest.raises(ModelError, match=r"tokenizer\.chat_template is 7, which is no template"):
        open_checkpoint(str(path))
