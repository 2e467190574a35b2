"""A run on a Ray cluster of three nodes on this machine: `python -m tests.labeling.ray_run DIR SCENE [SEED]`.

In a process of its own: Ray lies beside the environment, and changes the process that uses it. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

from preftree.engine.errors import PreftreeError
from preftree.labeling import cli
from preftree.labeling.data.folder import LocalFolder, folder_of
from preftree.labeling.methods.base import Method
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import Interrupted, run_label
from preftree.labeling.scaling import crew
from preftree.labeling.scaling.launch import label_on_ray
from preftree.labeling.terminal import messages_on_stderr
from tests.labeling.fakes import FakeScorer, open_fake_method, row, write_rows
from tests.labeling.object_store import object_store

ROWS = 240
# Arguments but for the model, which is the directory of their first word; all with the real engine.
COMMANDS = {
    "reward": ["reward"],
    "score": ["score", "--under", "honest"],
    "sample": ["sample", "--n", "2", "--max-tokens", "6", "--seed", "3"],
    "cot": ["label", "--cot", "--samples", "2", "--temperature", "0.8", "--max-rationale-tokens", "6"],
}


class SlowScorer(FakeScorer):
    """A window takes 20 milliseconds. A prompt with KILLER in it ends the process, one with BOOM breaks the engine.

    One with "HUNGRY PATH " needs more memory than there is, where and as long as nothing is at PATH.
    """

    def score(self, encoded: Any) -> Any:
        time.sleep(0.02)
        for prompt in (bytes(entry.ids) for entry in encoded):
            if b"KILLER" in prompt:
                os.kill(os.getpid(), signal.SIGKILL)
            if b"HUNGRY" in prompt and not (place := Path(prompt.split()[1].decode())).exists():
                place.touch()
                raise MemoryError("Unable to allocate 3.00 TiB")
        return super().score(encoded)


def load(options: Any, weights: bool = True) -> Any:
    return SlowScorer(window_tokens=200)


def load_by_node(options: Any, weights: bool = True) -> Any:
    """Each process is another kind of hardware."""
    scorer: Any = load(options)
    described = {**scorer.describe(), "arithmetic": str(os.getpid())}
    scorer.describe = lambda before=None: described
    return scorer


def open_method(options: Any, recorded: Mapping[str, Any] | None = None) -> Method:
    return open_fake_method(options)


def source_of(directory: Path, **changes: str) -> Path:
    """Two rows a prompt, one of them bad. changes: prompts by the number of their row, as "n12"."""
    rows = [row(id=f"id {n}", prompt=f"#prompt {n // 2}#", response_a=f"this {n}") for n in range(ROWS)]
    rows[7]["prompt"] = "TOO LONG"
    for name, prompt in changes.items():
        rows[int(name[1:])]["prompt"] = prompt
    return write_rows(directory / "in.jsonl", rows)


def options_of(source: Path, out: Path | str, **changes: Any) -> LabelOptions:
    return LabelOptions(input=str(source), out=str(out), **{"ray": "auto", "workers": 3, "quiet": True, **changes})


def label(source: Path, out: Path | str, load: Callable[..., Any] = load, **changes: Any) -> dict[str, Any]:
    """What became of a run, and whether its bytes are those of one process."""
    whole, folder = source.with_name("whole"), folder_of(out)
    try:
        summary = label_on_ray(options_of(source, out, **changes), load, open_method)
    except PreftreeError as error:
        return {"error": str(error), "left": folder.names("*")}
    run_label(options_of(source, whole, ray=None, workers=None, overwrite=True), load, open_method)
    same = folder.read("labels.parquet") == (whole / "labels.parquet").read_bytes()
    return {"same": same, "events": dict(summary.events), "ok": summary.ok, "files": folder.names("*")}


def killed_node(directory: Path, cluster: Any, seed: int) -> dict[str, Any]:
    """One of three nodes is killed while rows are judged; another one comes."""
    node, draw = cluster.list_all_nodes()[-1], random.Random(seed)
    out = directory / "out"

    def kill() -> None:
        while not list(out.glob("answers/part-*")):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1))
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)

    killer = threading.Thread(target=kill)
    killer.start()
    found = label(source_of(directory), out)
    killer.join()
    return found


def poison(directory: Path, cluster: Any, seed: int) -> dict[str, Any]:
    """A row that kills every process that judges it, and one that breaks every engine."""
    out = directory / "out"
    source = source_of(directory, n101="KILLER", n202="BOOM")
    summary = label_on_ray(options_of(source, out), load, open_method)
    return {"ok": summary.ok, "kinds": summary.rejections.kinds, "events": [list(line) for line in summary.events]}


def hungry(directory: Path, cluster: Any, seed: int) -> dict[str, Any]:
    """A worker that runs out of memory, once."""
    prompt = f"HUNGRY {directory / 'eaten'} "
    return label(source_of(directory, n101=prompt), directory / "out")


def urls(directory: Path, cluster: Any, seed: int) -> dict[str, Any]:
    """Runs below URLs: a directory's, and an object store's, where a run is resumed and a worker lost."""
    source = source_of(directory, n101=f"HUNGRY {directory / 'eaten'} ")
    found: dict[str, Any] = {}
    with object_store() as reached:
        out = f"s3://bucket/runs/one{reached}"
        found["beginning"] = label_on_ray(options_of(source, out, limit=60), load, open_method).ok
        found["store"] = label(source, out)
    found["file"] = label(source, (directory / "by url").as_uri())
    return found


def commands(directory: Path, cluster: Any, seed: int) -> dict[str, Any]:
    """Whether what a command writes is the same with and without Ray. Models are in `directory` already."""
    return {name: written(directory, name, *COMMANDS[name]) for name in COMMANDS}


def written(directory: Path, name: str, command: str, *options: str) -> dict[str, Any]:
    """Of the rows one is bad, and one too long for the model."""
    rows: list[Any] = [row(id=f"id {n}", prompt=f"Which of {n // 2}?", response_a=f"this {n}") for n in range(20)]
    rows[5], rows[8]["prompt"] = b"no JSON", "long " * 1000
    source = write_rows(directory / "rows.jsonl", rows)
    model = ("--model", str(directory / ("reward" if command == "reward" else "judge")), "--dtype", "float32")
    found: list[bytes] = []
    codes = []
    for place, ray in (("ray", ("--ray", "auto", "--workers", "2")), ("alone", ())):
        out = directory / f"{name} {place}"
        codes.append(cli.main([command, str(source), "--out", str(out), *model, *options, *ray]))
        found.append((out / "labels.parquet" if out.is_dir() else out).read_bytes())
    return {"same": found[0] == found[1], "codes": codes}


def stopped(directory: Path, cluster: Any, seed: int) -> dict[str, Any]:
    """Ctrl-C while rows are judged, and the same command again."""
    out = directory / "out"
    source = source_of(directory)

    def interrupt() -> None:
        while not list(out.glob("answers/part-*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        label_on_ray(options_of(source, out), load, open_method)
        said = "finished"
    except Interrupted as error:
        said = str(error)
    return {"said": said, **label(source, out)}


def mistakes(directory: Path, cluster: Any, seed: int) -> dict[str, Any]:
    """What ends in one line."""
    source, found = source_of(directory), {}
    found["gpus"] = label(source, directory / "gpus", gpus_per_worker=1)
    found["cpus"] = label(source, directory / "cpus", workers=9)
    found["hardware"] = label(source, directory / "hardware", load_by_node, same_hardware=True)
    found["kinds"] = label(source, directory / "kinds", load_by_node)
    with patch.object(crew, "version", lambda: "0.0.1"):
        found["version"] = label(source, directory / "version")
    (directory / "elsewhere").mkdir()
    with patch.object(crew, "folder_of", lambda named: LocalFolder(directory / "elsewhere")):
        found["unshared"] = label(source, directory / "unshared")
    return found


def no_cluster(directory: Path) -> dict[str, Any]:
    """Addresses where nobody answers, and where somebody does who is no cluster."""
    silent, web = socket.create_server(("127.0.0.1", 0)), ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    source, found = source_of(directory), {}
    for name, port in (("silent", silent.getsockname()[1]), ("web", web.server_port), ("closed", 9)):
        started = time.monotonic()
        found[name] = label(source, directory / name, ray=f"127.0.0.1:{port}")
        found[name]["seconds"] = time.monotonic() - started
    return found


def main(directory: Path, scene: Callable[[Path, Any, int], dict[str, Any]], seed: int) -> dict[str, Any]:
    import ray
    from ray.cluster_utils import Cluster

    few = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**few, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**few)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    with messages_on_stderr(quiet=False):
        try:
            return scene(directory, cluster, seed)
        finally:
            ray.shutdown()
            cluster.shutdown()


SCENES = {scene.__name__: scene for scene in (killed_node, poison, hungry, stopped, urls, commands, mistakes)}

if __name__ == "__main__":
    place, name, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else 0
    print(json.dumps(main(place, SCENES[name], seed) if name in SCENES else no_cluster(place)), flush=True)
    if name not in SCENES:
        os._exit(0)  # what still tries to connect would hold the process up
