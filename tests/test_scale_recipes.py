"""The recipes of examples/scale: they parse, their commands are there, and scripts treat exit codes as they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS
from preftree.labeling.options.runs import LabelOptions

SCALE = Path(__file__).parent.parent / "examples" / "scale"
RECIPES = sorted(path for path in SCALE.iterdir() if path.suffix in (".sh", ".yaml"))
# What the schedulers set for the fourth of 32.
PLACE = {
    "JOB_COMPLETION_INDEX": "3",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_COUNT": "32",
    "SLURM_JOB_ID": "77",
    "SKYPILOT_NODE_RANK": "3",
    "SKYPILOT_NUM_NODES": "32",
}
# Programs of the schedulers and `preftree` itself: what they are called with goes into a log.
STUB = """#!/bin/bash
trap 'exit 130' TERM
echo "$(basename "$0") $*" >> "$LOG"
if [ "$(basename "$0")" = srun ]; then exec "$@"; fi
if [ "$(basename "$0")" = preftree ]; then
    if [ "$CODE" = 130 ]; then sleep 20 & wait $!; fi
    exit "$CODE"
fi
"""


def read(name: str) -> Any:
    return yaml.safe_load((SCALE / name).read_text(encoding="utf-8"))


def kubernetes() -> dict[str, Any]:
    spec: dict[str, Any] = read("kubernetes-job.yaml")["spec"]
    return spec


def script(name: str) -> str:
    """What the recipe has bash run."""
    if name == "slurm-array.sh":
        return (SCALE / name).read_text(encoding="utf-8")
    if name == "skypilot.yaml":
        return str(read(name)["run"])
    (text,) = kubernetes()["template"]["spec"]["containers"][0]["args"]
    return str(text)


def run(name: str, folder: Path, code: int) -> tuple[subprocess.Popen[str], Path]:
    """The script begun, with stubs in place of what it calls."""
    log = folder / "log"
    for stub in ("preftree", "srun", "scontrol"):
        (folder / stub).write_text(STUB)
        (folder / stub).chmod(0o755)
    own = {"INPUT": "in", "RUN": "run", "MODEL": "m", "LOG": str(log), "CODE": str(code)}
    path = os.pathsep.join((str(folder), os.environ["PATH"]))
    command = ["bash", "-c", script(name), "bash", "in.parquet", "runs/big", "judge"]
    return subprocess.Popen(command, env=os.environ | PLACE | own | {"PATH": path}, text=True), log


SCRIPTS = ("slurm-array.sh", "kubernetes-job.yaml", "skypilot.yaml")


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(("code", "seen"), [(0, 0), (1, 1), (3, 0)])
def test_exit_codes(name: str, code: int, seen: int, tmp_path: Path) -> None:
    """Catches a job that fails for rejected rows, a failure that passes for success, a shard that is another's."""
    process, log = run(name, tmp_path, code)
    assert process.wait(timeout=60) == seen
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("preftree ")]
    _, options = parse(COMMANDS, shlex.split(line)[1:])
    assert isinstance(options, LabelOptions)
    assert "4/32" in (options.shard, options.worker)
    assert "3" in options.out or options.worker


@pytest.mark.parametrize("name", ["kubernetes-job.yaml", "slurm-array.sh"])
def test_a_signal_reaches_the_run(name: str, tmp_path: Path) -> None:
    """Catches a shell that swallows what asks the run to finish, and a stopped run that is not begun again."""
    process, log = run(name, tmp_path, 130)
    deadline = time.monotonic() + 30
    while not (log.exists() and "preftree label" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    if name == "slurm-array.sh":  # Slurm signals the step, not the script
        subprocess.run(["pkill", "-TERM", "-P", str(process.pid)], check=True)
        assert process.wait(timeout=15) == 0
        assert log.read_text().splitlines()[-1] == "scontrol requeue 77"
    else:
        process.terminate()
        assert process.wait(timeout=15) == 130


def test_an_indexed_job_has_a_pod_for_each_shard() -> None:
    """Catches shards that nobody labels."""
    spec = kubernetes()
    assert spec["completionMode"] == "Indexed"
    assert f"JOB_COMPLETION_INDEX + 1))/{spec['completions']}" in script("kubernetes-job.yaml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_commands_parse(path: Path) -> None:
    """Catches a command, flag or value that is not there, in comments, too."""
    text = re.sub(r"\$\(\(.*?\)\)", "4", path.read_text(encoding="utf-8").replace("\\\n", " "))
    text = re.sub(r"\$SKYPILOT_NUM_NODES|\$SLURM_ARRAY_TASK_COUNT", "32", text)
    lines = re.findall(r"preftree ((?:label|merge) .*?)(?:'|\s&|\s\|\||\s{3,}\(|$)", text, re.MULTILINE)
    assert lines or path.name == "ray-cluster.yaml"
    for line in lines:
        parse(COMMANDS, shlex.split(line))


def test_yaml_and_python() -> None:
    """Catches a file that nobody could use."""
    assert {type(read(path.name)) for path in RECIPES if path.suffix == ".yaml"} == {dict}
    cluster = read("ray-cluster.yaml")
    assert cluster["head_node_type"] in cluster["available_node_types"]
    for path in SCALE.glob("*.py"):
        compile(path.read_text(encoding="utf-8"), path.name, "exec")
