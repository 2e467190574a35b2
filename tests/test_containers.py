"""The Dockerfile and its page: no engine is needed to see what would be wrong with them."""

from __future__ import annotations

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS
from tests.test_packaging import SOURCES

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Instruction(NamedTuple):
    name: str
    text: str


def instructions(dockerfile: str) -> list[Instruction]:
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def faults(dockerfile: str) -> list[str]:
    """What is wrong with a Dockerfile, a word each."""
    found = instructions(dockerfile)
    checks = {
        "base": all(re.search(r":\d+\.\d+\.\d+-\w+-\w+$", one.text) for one in found if one.name == "FROM"),
        "add": all(one.name != "ADD" for one in found),
        "lists": all("rm -rf /var/lib/apt/lists/*" in one.text for one in found if "apt-get" in one.text),
        "recommends": all(
            "--no-install-recommends" in one.text and "--yes" in one.text for one in found if "apt-get" in one.text
        ),
        "pip-cache": all("--no-cache-dir" in one.text for one in found if "pip install" in one.text),
        "versions": all(_pinned(one.text) for one in found if "pip install" in one.text),
        "root": _ends_as_a_user(found),
        "shell": all(one.text.startswith("[") for one in found if one.name in ("CMD", "ENTRYPOINT")),
    }
    return [name for name, is_right in checks.items() if not is_right]


def _pinned(command: str) -> bool:
    """Packages are pinned, or this project, whose requirements have bounds."""
    named = [word for word in shlex.split(command)[2:] if not word.startswith(("-", "$"))]
    return bool(named) and all("==" in word or word.startswith(".") for word in named)


def _ends_as_a_user(found: list[Instruction]) -> bool:
    users = [place for place, one in enumerate(found) if one.name == "USER"]
    if not users:
        return False
    runs = [place for place, one in enumerate(found) if one.name == "RUN"]
    return re.fullmatch(r"[1-9]\d*:[1-9]\d*", found[users[-1]].text) is not None and users[-1] > max(runs)


def test_nothing_is_wrong_with_the_dockerfile() -> None:
    """Catches a base that moves, leftovers in layers, and a container that runs as root."""
    assert faults(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (r"FROM python:\S+", "FROM python:latest", "base"),
        (r"FROM python:\S+", "FROM python", "base"),
        (r"WORKDIR /src", "ADD https://example.com/x.tar /src", "add"),
        (r" && rm -rf /var/lib/apt/lists/\*", "", "lists"),
        (r"--no-install-recommends", "", "recommends"),
        (r"--no-cache-dir", "", "pip-cache"),
        (r'"torch==\$\{TORCH\}"', "torch", "versions"),
        (r"USER 1000:1000", "USER root", "root"),
        (r"USER 1000:1000", "", "root"),
        (r'CMD \["--help"\]', "CMD --help", "shell"),
    ],
)
def test_faults_are_found(before: str, after: str, fault: str) -> None:
    """Catches a check that lets everything pass."""
    changed = re.sub(before, after, DOCKERFILE)
    assert changed != DOCKERFILE
    assert faults(changed) == [fault]


def test_the_image_gets_what_the_package_is_made_of() -> None:
    """Catches a new folder that is in the wheel and not in the image, and what .dockerignore keeps from it."""
    copied = {
        source.rstrip("/") for one in instructions(DOCKERFILE) if one.name == "COPY" for source in one.text.split()[:-1]
    }
    assert copied == set(SOURCES)
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in rules if line.startswith("!")}
    assert (rules[1], kept) == ("*", copied)
    dropped = [rule for rule in rules[2:] if not rule.startswith("!")]
    assert not [name for name in SOURCES if any(fnmatch(name, rule) for rule in dropped)]


def test_versions_fit_the_project() -> None:
    """Catches an image with a torch, a Python or extras that pyproject.toml does not allow."""
    arguments = dict(one.text.split("=", 1) for one in instructions(DOCKERFILE) if one.name == "ARG")
    requirements = {found.name: found.specifier for found in map(Requirement, PROJECT["dependencies"])}
    assert arguments["TORCH"] in requirements["torch"]
    python = re.search(r"FROM python:([\d.]+)", DOCKERFILE)
    assert python is not None
    assert python[1] in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert set(arguments["EXTRAS"].split(",")) <= PROJECT["optional-dependencies"].keys()
    declared = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", PAGE, re.MULTILINE))
    assert declared == {**arguments, "TORCH_INDEX": "what pip is set to"}


def test_the_page_runs_what_is_there() -> None:
    """Catches a command, a build argument or a mount that the image does not have."""
    named = set(re.findall(r"--build-arg (\w+)=", PAGE))
    assert named
    assert named <= {one.text.split("=")[0] for one in instructions(DOCKERFILE) if one.name == "ARG"}
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    inline = re.findall(r"`(docker run [^`]*)`", PAGE)
    runs = re.findall(r"^(?:docker|apptainer) run .*$", blocks, re.MULTILINE) + inline
    assert len(runs) >= 6
    for line in runs:
        options, command = re.split(r"preftree(?::\w+|\.sif) ", line, maxsplit=1)
        parse(COMMANDS, shlex.split(command))
        for mount in re.findall(r"(?:-v|--bind) \S+?:(/\w+)", options):
            assert mount in ("/cache", "/data", "/models"), line
    caches = [one.text for one in instructions(DOCKERFILE) if one.name == "VOLUME"]
    assert caches == ["/cache"]
    (settings,) = (one.text for one in instructions(DOCKERFILE) if one.name == "ENV")
    assert settings.count("=/cache") == 3
