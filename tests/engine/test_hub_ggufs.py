"""GGUF models by their names on the hub: the only one, one of several, one in parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.hub.gguf_files import GgufFiles
from preftree.engine.hub.model import HubModel, pinned_model
from tests.engine.gguf_files import write_gguf
from tests.hub_stand_in import Hub, hub_stand_in
from tests.models import CONFIG, write_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model, a .gguf of it, and its parts."""
    directory = write_model(tmp_path_factory.mktemp("made") / "hf", CONFIG)
    write_gguf(directory.parent / "small-F32.gguf", directory)
    write_gguf(directory.parent / "parts-F32.gguf", directory, split=16)
    return directory.parent


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path) -> Iterator[Hub]:
    whole = (made / "small-F32.gguf").read_bytes()
    several = {"small-F32.gguf": whole, "small-Q4_0.gguf": whole, "mmproj-small-F16.gguf": b"reads images"}
    parts = {f"F32/{path.name}": path.read_bytes() for path in made.glob("parts-F32-*.gguf")}
    assert len(parts) > 1
    monkeypatch.chdir(tmp_path)
    with hub_stand_in(tmp_path / "cache", monkeypatch) as running:
        running.add("models/org/one", {"README.md": b"", "small-F32.gguf": whole, "config.json": b"{}"})
        running.add("models/org/several", several)
        running.add("models/org/parts", parts | {"other-Q8_0.gguf": whole})
        running.add("models/org/both", {path.name: path.read_bytes() for path in (made / "hf").iterdir()} | several)
        yield running


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("org/one", ["small-F32.gguf"]),
        ("org/one:f32", ["small-F32.gguf"]),
        ("org/several:Q4_0", ["small-Q4_0.gguf"]),
        ("org/several:small-F32.gguf", ["small-F32.gguf"]),
        ("org/parts:F32", None),
        ("org/both:Q4_0", ["small-Q4_0.gguf"]),
    ],
)
def test_one_file_is_fetched_once(hub: Hub, made: Path, name: str, files: list[str] | None) -> None:
    """Catches other quantizations downloaded, a part left out, a second download, and a name lost for a path."""
    repository, _, _ = name.partition(":")
    commit = hub.repositories[f"models/{repository}"].commit
    found = open_checkpoint(name)
    parts = sorted(one for one in hub.repositories[f"models/{repository}"].files if one.startswith("F32/"))
    assert hub.fetched == (parts if files is None else files)
    assert found.revision == commit
    assert found.name == f"{repository}:{(files or [Path(parts[0]).name])[0]}"
    assert found.config == open_checkpoint(str(made / "small-F32.gguf")).config

    pinned = pinned_model(name, None, offline=True)
    assert pinned == f"{repository}@{commit}:{(files or parts)[0]}"
    hub.asked.clear()
    assert open_checkpoint(pinned).revision == open_checkpoint(name, offline=True).revision == commit
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "org/several",
            r"^org/several: the repository holds several .gguf models; name one: org/several:small-F32.gguf, "
            r"org/several:small-Q4_0.gguf$",
        ),
        ("org/several:Q9", r"^org/several:Q9: the repository holds no .gguf of that name; name one: org/sev.*_0.gguf$"),
        ("org/plain:Q4_0", r"^org/plain holds no .gguf model, so there is no :Q4_0 of it; leave that out$"),
        ("org/none:Q4_0", r"^org/none: no such file or directory here, and no model of that name at http"),
    ],
)
def test_choices_that_are_not_clear(hub: Hub, made: Path, name: str, said: str) -> None:
    """Catches a quantization chosen in silence, and a refusal that does not say what to type."""
    hub.add("models/org/plain", made / "hf")
    with pytest.raises(ModelError, match=said):
        open_checkpoint(name)
    with pytest.raises(ModelError, match=said):
        pinned_model(name, None, offline=False)
    assert hub.fetched == []


def test_safetensors_go_before_ggufs(hub: Hub) -> None:
    """Catches a name without a choice read from other weights than before."""
    assert open_checkpoint("org/both").name == "org/both"
    assert "model.safetensors" in hub.fetched
    assert pinned_model("org/both", None, offline=False).partition("@")[2].isalnum()


def test_a_run_that_is_resumed_keeps_its_file(hub: Hub) -> None:
    """Catches another file or commit after an upload, and the file of another choice taken for the same."""
    name = "org/one"
    before = pinned_model(name, None, offline=False)
    hub.repositories["models/org/one"].files["small-Q4_0.gguf"] = b"new"
    assert pinned_model(name, before, offline=False) == pinned_model(before, None, offline=False) == before
    assert pinned_model(f"{name}:F32", before, offline=False) == before
    assert pinned_model(f"{name}:Q4_0", before, offline=False).endswith(":small-Q4_0.gguf")


def test_offline_takes_what_is_there(hub: Hub) -> None:
    """Catches a request although it is forbidden, and half of a split model taken for whole."""
    open_checkpoint("org/parts:F32")
    hub.asked.clear()
    assert open_checkpoint("org/parts", offline=True).name == "org/parts:parts-F32-00001-of-" + _count(hub) + ".gguf"
    with pytest.raises(ModelError, match=r"^org/parts: .*not in the cache .*HF_HUB_OFFLINE"):
        open_checkpoint("org/parts:Q8_0", offline=True)
    found = HubModel.parse("org/parts:F32")
    assert found is not None
    first = found.find(offline=True)
    first.with_name(first.name.replace("00001", "00002", 1)).unlink()
    with pytest.raises(ModelError, match=r"00002-of-\d+.gguf: is missing; download all"):
        open_checkpoint("org/parts:F32", offline=True)
    assert hub.asked == []
    open_checkpoint("org/parts:F32")
    assert len(hub.fetched) == 1


def _count(hub: Hub) -> str:
    return f"{sum(name.startswith('F32/') for name in hub.repositories['models/org/parts'].files):05}"


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("a-Q4_K_M.gguf", ["a-Q4_K_M.gguf"]),
        ("q4_k_m", ["a-Q4_K_M.gguf"]),
        ("K_M", []),
        ("UD", ["UD/a-Q2_K-00001-of-00002.gguf"]),
        ("a-Q2_K-00002-of-00002.gguf", ["UD/a-Q2_K-00001-of-00002.gguf"]),
        ("Q8_0", ["a.Q8_0.gguf", "b-Q8_0.gguf"]),
        ("x.gguf", ["x.gguf"]),
        (None, 6),
    ],
)
def test_names_of_choices(choice: str | None, found: list[str] | int) -> None:
    """Catches a part of a quantization's name taken for it, and a path that cannot be named."""
    names = ["a-Q4_K_M.gguf", "UD/a-Q2_K-00001-of-00002.gguf", "UD/a-Q2_K-00002-of-00002.gguf", "a.Q8_0.gguf"]
    files = GgufFiles.of("org/x", [*names, "b-Q8_0.gguf", "x.gguf", "sub/x.gguf", "mmproj.gguf", "README.md"])
    assert files.meant(choice) == found if isinstance(found, list) else len(files.meant(choice)) == found


@pytest.mark.parametrize("text", ["org/x:", "a/b/c:Q4", "x:Q4", "org/x.gguf", "C:/models/x", "org/x:../y.gguf"])
def test_names_that_are_none(text: str) -> None:
    assert HubModel.parse(text) is None
