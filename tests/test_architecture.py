"""The house has three storeys, and imports run downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD = {"__future__", "collections", "contextlib", "dataclasses", "os", "shutil", "types", "typing"}
KERNELS_MAY = {"torch", "triton", "kernels", *STANDARD}
ENGINE_DOOR = "labeling/scorer.py"


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names of every import, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module


def files_of(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def top(name: str) -> str:
    return name.partition(".")[0]


def test_kernels_import_torch_and_triton_only() -> None:
    for path in files_of("kernels"):
        assert {top(name) for name in imports_of(path)} <= KERNELS_MAY, path


def test_kernels_never_import_the_reference() -> None:
    for path in files_of("kernels"):
        if path.name != "reference.py":
            assert "kernels.reference" not in set(imports_of(path)), path


def test_engine_does_not_know_labeling() -> None:
    for path in files_of("engine"):
        assert not {"labeling", "benchmarks", "tests"} & {top(name) for name in imports_of(path)}, path


def test_planning_is_numpy_until_the_plan_is_frozen() -> None:
    for path in files_of("engine/planning"):
        if path.name not in ("plan.py", "steps.py", "tiling.py"):
            names = set(imports_of(path))
            assert not {"torch", "triton", "kernels"} & {top(name) for name in names}, path


def test_labeling_reaches_the_engine_through_one_door() -> None:
    for path in files_of("labeling"):
        names = {name for name in imports_of(path) if top(name) in ("engine", "kernels", "torch", "triton")}
        if str(path.relative_to(ROOT)) != ENGINE_DOOR:
            assert names <= {"engine.errors"}, path


def test_no_pickle() -> None:
    for package in ("kernels", "engine", "labeling"):
        for path in files_of(package):
            assert not {"pickle", "marshal", "shelve"} & {top(name) for name in imports_of(path)}, path
            assert "torch.load" not in path.read_text(), path


def run_python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(
    "module", ["engine", "engine.errors", "kernels", "labeling", "labeling.scorer", "labeling.cli"]
)
def test_imports_are_light(module: str) -> None:
    """Neither torch nor triton is imported until it is needed, and CUDA is never touched."""
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'triton', 'transformers'}} & sys.modules.keys()))"
    assert run_python(code).returncode == 0


def test_labels_need_no_triton() -> None:
    """The CPU path must stay usable where triton is not installed."""
    code = "import sys; sys.modules['triton'] = None; import engine.engine, labeling.run, kernels.cpu"
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_a_foreign_kernels_package_is_named(tmp_path: Path) -> None:
    """Another distribution installs a package `kernels`, too; without this check the first use of ours is a puzzle."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("__version__ = '0.11'\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import engine"
    result = run_python(code)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: preftree needs its own package `kernels`")
    assert str(tmp_path / "kernels") in last
    result = run_python(code.replace("import engine", "from labeling.cli import main; sys.exit(main(['plan', 'x']))"))
    assert result.returncode == 1
    assert result.stderr.startswith("preftree: preftree needs its own package `kernels`")
    assert len(result.stderr.splitlines()) == 1
