"""A run on a Ray cluster: three nodes on this machine, of which one dies, rows that kill, URLs, Ctrl-C, mistakes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling import cli
from preftree.labeling.commands.table import REJECTED_ROWS
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.scaling.cluster import _sized
from tests.labeling.commands import one_error
from tests.labeling.fakes import row, write_rows
from tests.labeling.ray_run import COMMANDS, ROWS
from tests.labeling.reward_models import write_reward_model
from tests.models import SMALL_CONFIG, write_model
from tests.processes import RAY, ROOT, printed, run_python

needs_ray = pytest.mark.skipif(not RAY.is_dir(), reason="Ray lies beside the environment of `make test`")


def scene(directory: Path, name: str, seed: int = 0) -> tuple[dict[str, Any], str]:
    """What a scene of `tests.labeling.ray_run` found, and what the run reported."""
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}  # or they are looked for on the network
    command = ("-m", "tests.labeling.ray_run", directory, name, seed)
    done = run_python(*command, imports=(ROOT, RAY), own=settings | keys, seconds=170)
    found = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, done.stderr
    return json.loads(found[-1]), done.stderr


@needs_ray
def test_a_node_is_killed(tmp_path: Path) -> None:
    """Catches labels that depend on who judged what, rows that are lost with a node, and a run that ends with it.

    Takes 15 seconds, most of them for Ray to start three nodes and to notice that one is gone.
    """
    found, _ = scene(tmp_path, "killed_node")
    assert found["same"]
    assert found["ok"] == ROWS - 1
    assert found["files"] == ["answers", "labels.parquet", "lock", "run.json"]
    assert "shards by" in found["events"]["workers"]


@needs_ray
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 11))
def test_a_node_is_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Catches what happens only where a node dies while a part is written, or a model loaded."""
    found, _ = scene(tmp_path, "killed_node", seed)
    assert found["same"]
    assert found["ok"] == ROWS - 1


@needs_ray
@pytest.mark.soak
def test_a_row_that_no_worker_survives(tmp_path: Path) -> None:
    """Catches a run that ends, or never does, by a row that kills the process or breaks the engine."""
    found, _ = scene(tmp_path, "poison")
    assert found["ok"] == ROWS - 3
    assert found["kinds"]["its worker was lost each of the last N times"] == 2
    said = "\n".join(text for _, text in found["events"])
    assert "RuntimeError: the engine broke" in said
    assert "its process died" in said
    assert "2 rows that no worker survived" in said


@needs_ray
@pytest.mark.soak
def test_a_worker_that_runs_out_of_memory(tmp_path: Path) -> None:
    """Catches a run that such a worker ends, rows that it takes with it, and a summary that is silent about it."""
    found, said = scene(tmp_path, "hungry")
    assert found["same"]
    assert found["ok"] == ROWS - 1
    assert "MemoryError: Unable to allocate 3.00 TiB; what it judged was tried again" in found["events"]["lost"]
    assert "is lost: MemoryError: Unable to allocate 3.00 TiB; another one takes its place" in said


@needs_ray
@pytest.mark.soak
def test_runs_below_urls(tmp_path: Path) -> None:
    """Catches workers that write elsewhere than the driver looks, and a URL whose query gets lost between them."""
    found, _ = scene(tmp_path, "urls")
    assert found["beginning"] == 59
    for name in ("store", "file"):
        assert found[name]["same"], name
        assert found[name]["ok"] == ROWS - 1
    assert found["store"]["files"] == ["labels.parquet", "run.json"]
    assert "shards by" in found["store"]["events"]["workers"]
    assert "MemoryError" in found["store"]["events"]["lost"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What commands wrote on Ray and without it, with small models; one cluster serves all."""
    directory = tmp_path_factory.mktemp("commands")
    write_model(directory / "judge", SMALL_CONFIG)
    write_reward_model(directory / "reward")
    return scene(directory, "commands")[0]


@needs_ray
@pytest.mark.soak
@pytest.mark.parametrize("name", COMMANDS)
def test_other_commands(name: str, written: dict[str, Any]) -> None:
    """Catches workers that judge otherwise than one process: other seeds, a method that is not sent along, bad rows."""
    assert written[name] == {"same": True, "codes": [REJECTED_ROWS, REJECTED_ROWS]}


@needs_ray
@pytest.mark.soak
def test_an_interrupted_run_is_resumed(tmp_path: Path) -> None:
    """Catches Ctrl-C that loses what was judged, that waits for all rows, and other bytes after it."""
    found, _ = scene(tmp_path, "stopped")
    assert "rows of" in found["said"]
    assert "run the same command again to resume" in found["said"]
    assert found["same"]


@needs_ray
@pytest.mark.soak
def test_mistakes_end_in_one_line(tmp_path: Path) -> None:
    """Catches a mistake that is noticed after models were loaded, and what is left of a run that never began."""
    found, said = scene(tmp_path, "mistakes")
    assert found["gpus"]["error"].startswith("3 workers with 1 GPU each need 3 GPUs, and the cluster has 0 GPUs; use")
    assert found["cpus"]["error"].startswith("9 workers with 1 CPU each need 9 CPUs, and the cluster has 3 CPUs; use")
    assert "is not shared: the worker on" in found["unshared"]["error"]
    assert "and this is 0.0.1; install one version on every machine" in found["version"]["error"]
    assert "is of another kind" in found["hardware"]["error"]
    for name in ("gpus", "cpus", "unshared", "version", "hardware"):
        assert found[name]["left"] == [], name
    assert found["kinds"]["same"]
    assert "kinds of hardware or software, whose bits may differ: " in said


@needs_ray
@pytest.mark.soak
def test_the_command_on_this_machine(tmp_path: Path) -> None:
    """Catches a cluster that ends with the thread that started it, and other bytes of the embedded model."""
    source = write_rows(tmp_path / "in.jsonl", [row(id=f"id {n}", prompt=f"Which of {n}?") for n in range(6)])
    for out, ray in (("ray", ["--ray", "local", "--workers", "1"]), ("alone", [])):
        command = ("-m", "preftree", "label", source, "--out", tmp_path / out, *ray)
        said = printed(*command, imports=(ROOT, RAY), seconds=170)
        assert ("by 1 worker on 1 node" in said) == bool(ray)
    assert (tmp_path / "ray" / "labels.parquet").read_bytes() == (tmp_path / "alone" / "labels.parquet").read_bytes()


@needs_ray
@pytest.mark.soak
def test_nobody_answers(tmp_path: Path) -> None:
    """Catches a wait without end for a cluster that is not there, Ray's traceback, and what it says each second."""
    found, said = scene(tmp_path, "no_cluster")
    assert "GCS" not in said
    for name in ("silent", "web", "closed"):
        assert found[name]["error"].startswith("no Ray cluster answers at 127.0.0.1:")
        assert found[name]["seconds"] < 25
        assert found[name]["left"] == []


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback where the extra is not installed, and a directory that is left."""
    monkeypatch.setitem(sys.modules, "ray", None)
    source, out = write_rows(tmp_path / "in.jsonl", [row()]), tmp_path / "out"
    assert cli.main(["label", str(source), "--out", str(out), "--quiet", "--ray"]) == 1
    assert "--ray needs the package ray: pip install 'preftree[ray]'" in one_error(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "workers", "cpus", "gpus"),
    [
        ({}, 4, 1, 1),
        ({"cpus_per_worker": 8}, 2, 8, 1),
        ({"gpus_per_worker": 2}, 2, 1, 2),
        ({"device": "cpu"}, 16, 1, 0),
        ({"workers": 3, "gpus_per_worker": 0}, 3, 1, 0),
    ],
)
def test_as_many_workers_as_fit(changes: dict[str, Any], workers: int, cpus: int, gpus: int) -> None:
    """Catches GPUs that are left alone or given twice, and cores that are."""
    options = LabelOptions(input="in.jsonl", out="out", ray="auto", **changes)
    assert _sized({"CPU": 16.0, "GPU": 4.0, "memory": 1e9}, options) == (workers, {"num_cpus": cpus, "num_gpus": gpus})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ray", "in.jsonl"], "--ray must be auto, local, HOST:PORT or ray://HOST:PORT, not 'in.jsonl'"),
        (["--workers", "2"], "--workers requires --ray"),
        (["--ray", "--worker", "1/2"], "--ray excludes --worker"),
        (["--profile", "x", "--ray"], "--profile excludes --ray"),
    ],
)
def test_options_that_are_of_no_use(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an input that is taken for an address, and options that are ignored."""
    assert cli.main(["label", "in.jsonl", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert said in one_error(capsys)
