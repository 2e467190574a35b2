"""What a user installs: wheel and sdist, beside another distribution that has a package `kernels`, too."""

from __future__ import annotations

import json
import re
import shutil
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.models import SMALL_CONFIG, write_model
from tests.processes import FOREIGN_KERNELS, ROOT, printed, require

SOURCES = ("preftree", "engine", "kernels", "labeling", "pyproject.toml", "README.md", "LICENSE")


def build(project: Path, kind: str, out: Path) -> Path:
    """A distribution of `project`. kind: "wheel" or "sdist"."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    return out / printed("-c", code, imports=(), cwd=project).splitlines()[-1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources alone: building leaves files behind. Links stay links."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(checkout, "wheel", tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in file.namelist() if ".dist-info/" not in name}


def test_a_wheel_holds_every_source_once(wheel: Path) -> None:
    """Catches a link that was not followed, and files that the bare names would be imported from."""
    names = set(contents(wheel))
    packages = ("engine", "kernels", "labeling")
    expected = {f"preftree/{path.relative_to(ROOT)}" for name in packages for path in (ROOT / name).rglob("*.py")}
    data = [path for pattern in ("*.txt", "*.yaml", "*.html") for path in (ROOT / "labeling").rglob(pattern)]
    data += [path for pattern in ("*.cpp", "*.h") for path in (ROOT / "kernels").rglob(pattern)]
    expected |= {f"preftree/{path.relative_to(ROOT)}" for path in data}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "preftree" / "integrations").glob("*.py")}
    assert names == expected | {f"preftree/{name}" for name in ("__init__.py", "__main__.py", "py.typed")}


def test_an_sdist_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build(checkout, "sdist", tmp_path)) as file:
        file.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert contents(build(unpacked, "wheel", tmp_path)) == contents(wheel)


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and the other distribution; what they need lies behind them."""
    require(FOREIGN_KERNELS)
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = (home / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    shutil.copytree(FOREIGN_KERNELS, site, dirs_exist_ok=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin" / "python"


def run(environment: Path, *arguments: str, cwd: Path) -> str:
    return printed(*arguments, interpreter=environment, imports=(), cwd=cwd)


@pytest.mark.parametrize(
    ("found", "is_refused"), [((3, 10), True), ((3, 11), False), ((3, 13), False), ((4, 0), False)]
)
def test_make_takes_every_python_from_the_oldest(
    found: tuple[int, int], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a set-up that refuses a Python which works, and one that fails later on one which does not."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [check] = re.findall(r"\$\(PYTHON\) -c '(import sys; .*)'$", makefile, re.MULTILINE)
    [oldest] = re.findall(r'^requires-python = ">=(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    monkeypatch.setattr(sys, "version_info", (*found, 0))
    with pytest.raises(SystemExit) as ended:
        exec(check.replace("$(OLDEST_PYTHON)", oldest), {})
    assert bool(ended.value.code) == is_refused
    assert not is_refused or f"needs Python {oldest} or newer, found 3.10" in str(ended.value.code)


def test_an_installed_wheel_labels(environment: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", SMALL_CONFIG)
    pairs = [{"id": name, "prompt": "Which?", "response_a": name, "response_b": "none"} for name in ("one", "two")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    run(environment, "-m", "preftree", "label", "pairs.jsonl", "--out", "run", "--model", str(model), cwd=tmp_path)
    code = "import pyarrow.parquet as p; print(p.read_table('run/labels.parquet').column('status').to_pylist())"
    assert run(environment, "-c", code, cwd=tmp_path) == "['ok', 'ok']\n"


def test_both_packages_called_kernels_are_there(environment: Path, tmp_path: Path) -> None:
    code = "import kernels, preftree.kernels.tiles; print(callable(kernels.get_kernel), preftree.kernels.__file__)"
    found, _, place = run(environment, "-c", code, cwd=tmp_path).partition(" ")
    assert found == "True"
    assert place.endswith("site-packages/preftree/kernels/__init__.py\n")
