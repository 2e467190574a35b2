"""Models by their names on the hub: from the cache, or downloaded from a stand-in on loopback."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.hub.model import pinned_model
from preftree.labeling.judge.doctor import Doctor
from tests.hub_stand_in import Hub, hub_stand_in
from tests.models import CONFIG, write_model

NAME = "org/small"
READ = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, beside which there are code and a pickle."""
    directory = write_model(tmp_path / "made", CONFIG)
    (directory / "modeling_small.py").write_text("raise SystemExit('code was run')")
    (directory / "pytorch_model.bin").write_bytes(b"a pickle")
    monkeypatch.chdir(tmp_path)
    with hub_stand_in(tmp_path / "cache", monkeypatch) as running:
        running.add(f"models/{NAME}", directory)
        yield running


def test_a_name_is_downloaded_once_without_code_and_pickles(hub: Hub) -> None:
    """Catches files fetched that nothing reads, a second download, and a name lost for a hash."""
    commit = hub.repositories[f"models/{NAME}"].commit
    found = open_checkpoint(NAME)
    assert (found.name, found.revision) == (NAME, commit)
    assert hub.fetched == READ
    again = open_checkpoint(NAME)
    assert hub.asked == []
    assert again.fingerprint() == found.fingerprint() == open_checkpoint(str(hub.cache.parent / "made")).fingerprint()


@pytest.mark.parametrize("by_variable", [False, True])
def test_offline_takes_the_cache_and_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch, by_variable: bool) -> None:
    """Catches a request to the network although --offline or HF_HUB_OFFLINE forbids it."""
    open_checkpoint(NAME)
    hub.asked.clear()
    if by_variable:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert open_checkpoint(NAME, offline=not by_variable).name == NAME
    with pytest.raises(ModelError, match=r"^org/other: .*not in the cache .*HF_HUB_OFFLINE.*; run it once with .* or "):
        open_checkpoint("org/other", offline=not by_variable)
    assert hub.asked == []


def test_a_path_goes_before_a_name(hub: Hub) -> None:
    """Catches a model of the hub taken for the directory of the same name."""
    write_model(Path(NAME), CONFIG | {"num_hidden_layers": 1})
    assert open_checkpoint(NAME).config.num_layers == 1
    assert hub.asked == []


def test_caches_of_other_tools_are_found(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches HF_HOME ignored, and a snapshot given as a path without the model's name."""
    open_checkpoint(NAME)
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", "home")
    shutil.copytree(hub.cache, "home/hub", symlinks=True)
    found = open_checkpoint(NAME, offline=True)
    assert found.spec is not None
    assert "home/hub" in found.spec
    assert open_checkpoint(found.spec).name == NAME


def test_revisions(hub: Hub) -> None:
    """Catches a branch or tag that is not asked for, and one of the cache that is taken for another."""
    hub.repositories[f"models/{NAME}"].revisions += ("refs/pr/1",)
    commit = hub.repositories[f"models/{NAME}"].commit
    assert open_checkpoint(f"{NAME}@refs/pr/1").revision == commit
    assert open_checkpoint(f"{NAME}@{commit}", offline=True).revision == commit
    with pytest.raises(ModelError, match=r"not in the cache"):
        open_checkpoint(f"{NAME}@v2", offline=True)
    with pytest.raises(ModelError, match=r"^org/small: there is no revision v2; .* lists its branches"):
        open_checkpoint(f"{NAME}@v2")


def test_a_run_that_is_resumed_keeps_its_commit(hub: Hub) -> None:
    """Catches a run that goes on with a model that was uploaded meanwhile."""
    before = pinned_model(NAME, None, offline=False)
    assert before == f"{NAME}@{hub.repositories[f'models/{NAME}'].commit}"
    hub.repositories[f"models/{NAME}"].files["new.json"] = b"{}"
    assert pinned_model(NAME, before, offline=False) == before
    assert pinned_model(NAME, None, offline=False) != before
    assert pinned_model("embedded", None, offline=True) == "embedded"


def test_shards_are_those_of_the_index(hub: Hub) -> None:
    """Catches weights in a second format downloaded, and a snapshot without a shard taken for whole."""
    files = hub.repositories[f"models/{NAME}"].files
    files["model-1-of-1.safetensors"] = files.pop("model.safetensors")
    files["consolidated.safetensors"] = b"the same again"
    names = json.loads(files["model-1-of-1.safetensors"][8:].split(b"}}", 1)[0] + b"}}")
    weight_map = {name: "model-1-of-1.safetensors" for name in names if name != "__metadata__"}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    found = open_checkpoint(NAME)
    assert "consolidated.safetensors" not in hub.fetched
    assert found.spec is not None
    (Path(found.spec) / "model-1-of-1.safetensors").unlink()
    open_checkpoint(NAME)
    assert hub.fetched == ["model-1-of-1.safetensors"]


FAULTS = {
    "none": ({}, r"^org/none: no such file or directory here, and no model of that name at http.*HF_TOKEN$"),
    "gated": ({"gated": True}, r"^org/gated: it is gated; accept its terms at http\S+/org/gated, .*HF_TOKEN$"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refusals_of_the_hub(hub: Hub, name: str) -> None:
    """Catches a traceback, or a line without a way out, where the hub says no."""
    about, said = FAULTS[name]
    if about:
        hub.add(f"models/org/{name}", hub.cache.parent / "made", **about)
    with pytest.raises(ModelError, match=said) as raised:
        open_checkpoint(f"org/{name}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["config.json", "pytorch_model.bin"], r"no safetensors but pickles \(pytorch_model.bin\).*never read; "),
        (["README.md"], r"holds no model.safetensors; it is no language model"),
    ],
)
def test_repositories_without_safetensors(hub: Hub, files: list[str], said: str) -> None:
    """Catches gigabytes of pickles downloaded, or a message that does not say what is there instead."""
    hub.add("models/org/other", dict.fromkeys(files, b"{}"))
    with pytest.raises(ModelError, match=said):
        open_checkpoint("org/other")
    assert hub.fetched == []


def test_a_directory_that_was_meant(hub: Hub) -> None:
    """Catches a misspelt path answered with the hub alone."""
    Path("org/smaller").mkdir(parents=True)
    with pytest.raises(ModelError, match=re.escape("(did you mean org/smaller?)")):
        open_checkpoint("org/smallr")


def test_a_download_that_breaks_off(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches half a file taken for whole, and everything fetched again afterwards."""
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.repositories[f"models/{NAME}"].broken = "model.safetensors"
    with pytest.raises(ModelError, match=r"the download of model.safetensors broke off \(.*; run the same command"):
        open_checkpoint(NAME)
    assert {*hub.fetched} == {*READ}
    hub.repositories[f"models/{NAME}"].broken = None
    open_checkpoint(NAME)
    assert hub.fetched == ["model.safetensors"]


def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback where the cache has no room."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(ModelError, match=r"^org/small: no room in .*cache; make some, or .* HF_HOME"):
        open_checkpoint(NAME)


def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a hang or a traceback where nobody answers."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ModelError,
        match=r"^org/small: no such .* here, and http://127.0.0.1:9 cannot be reached \(.*\); run",
    ):
        open_checkpoint(NAME)


def test_the_package_is_missing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an ImportError, and a cached model that wants a package which it does not need."""
    open_checkpoint(NAME)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    assert open_checkpoint(NAME).name == NAME
    with pytest.raises(ModelError, match=r"pip install 'preftree\[remote\]'"):
        open_checkpoint("org/other")


def test_links_lead_to_blobs_of_the_cache_only(hub: Hub, tmp_path: Path) -> None:
    """Catches a file from anywhere on the machine read as if it were the model's."""
    spec = open_checkpoint(NAME).spec
    assert spec is not None
    config = Path(spec) / "config.json"
    (tmp_path / "elsewhere.json").write_bytes(config.read_bytes())
    config.unlink()
    config.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ModelError, match=r"config.json is a link that leads out of the cache; remove it"):
        open_checkpoint(NAME)


def test_doctor_says_where_it_found_a_model(hub: Hub) -> None:
    """Catches `preftree doctor` that knows paths only."""
    commit = hub.repositories[f"models/{NAME}"].commit
    [found] = [line for line in Doctor(NAME).lines() if " hub " in line]
    assert " ".join(found.split()) == f"hub {NAME} at revision {commit}, in {open_checkpoint(NAME).spec}"
