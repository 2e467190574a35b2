"""Three packages in layers: imports run downwards only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import preftree
from tests.processes import ROOT, printed

STANDARD = {
    "__future__",
    "collections",
    "contextlib",
    "ctypes",
    "dataclasses",
    "functools",
    "hashlib",
    "importlib",
    "logging",
    "os",
    "pathlib",
    "shutil",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "types",
    "typing",
}
KERNELS_MAY = {"torch", "triton", "preftree.kernels", *STANDARD}
BELOW_LABELING = ("preftree.engine", "preftree.kernels", "torch", "triton")
# Labels and rewards: a judge, the reward models that are trained on what it says, and what there is of either.
ENGINE_USERS = tuple(f"labeling/judge/{name}.py" for name in ("judge", "reward_model", "installed"))


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
    """What is imported from: a distribution's package, or one of preftree's own three."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "preftree" else parts[0]


def test_kernels_import_torch_and_triton_only() -> None:
    for path in files_of("kernels"):
        assert {top(name) for name in imports_of(path)} <= KERNELS_MAY, path


def test_kernels_never_import_the_reference() -> None:
    for path in files_of("kernels"):
        if path.name != "reference.py":
            assert "preftree.kernels.reference" not in set(imports_of(path)), path


def test_engine_does_not_know_labeling() -> None:
    for path in files_of("engine"):
        assert not {"preftree.labeling", "benchmarks", "tests"} & {top(name) for name in imports_of(path)}, path


def test_planning_is_numpy_until_the_plan_is_frozen() -> None:
    for path in files_of("engine/planning"):
        if path.name not in ("plan.py", "steps.py", "tiling.py"):
            names = set(imports_of(path))
            assert not {"torch", "triton", "preftree.kernels"} & {top(name) for name in names}, path


def test_three_modules_of_labeling_import_the_engine() -> None:
    allowed = {f"preftree.engine.{name}" for name in ("errors", "generation", "openmp", "sandbox", "texts")}
    allowed |= {f"preftree.engine.hub.{name}" for name in ("repository", "download", "model")}  # data sets, too
    for path in files_of("labeling"):
        names = {name for name in imports_of(path) if top(name) in BELOW_LABELING}
        place = str(path.relative_to(ROOT))
        if place not in ENGINE_USERS:
            # Training is on another engine: that of TRL.
            assert names <= (allowed | {"torch"} if place.startswith("labeling/training/") else allowed), path


def test_training_alone_imports_trainers() -> None:
    """Catches TRL wanted for what needs no training, whether it is imported early or late."""
    for path in files_of("labeling"):
        if {"trl", "peft", "accelerate"} & {top(name) for name in imports_of(path)}:
            assert path.parts[-2] == "training", path


# Packages and modules inside engine/ and labeling/, lowest first; those of one line do not import each other.
ENGINE_LAYERS = (
    ("errors", "openmp", "gathering"),
    ("texts", "files", "memory", "profiling", "trace", "generation", "device_names"),
    ("sandbox", "sandbox_child", "hub"),
    ("config",),
    ("weights", "precision"),
    ("tokenizer", "planning"),
    ("fitting",),
    ("gguf", "requests", "device", "results"),
    ("checkpoint", "model", "opening"),
    ("scoring", "inspection", "model_table"),
    ("decoding", "arithmetic", "planner"),
    ("engine",),
)
LABELING_LAYERS = (
    ("terminal", "rationales", "values", "regular_file", "streams", "grid", "orders", "result"),
    ("options", "yaml_file", "progress", "changes"),
    ("types",),
    ("principles", "data"),
    ("prompts", "report", "answers", "rubrics"),
    ("calibration", "probing"),
    ("methods",),
    ("judge",),
    ("pipeline",),
    ("runs",),
    ("scaling",),
    ("export", "panel"),
    ("training", "api", "comparing"),
    ("serving",),
    ("integrations",),
    ("commands",),
    ("cli",),
)


@pytest.mark.parametrize(("package", "layers"), [("engine", ENGINE_LAYERS), ("labeling", LABELING_LAYERS)])
def test_inside_a_package_imports_run_downwards(package: str, layers: tuple[tuple[str, ...], ...]) -> None:
    rank = {name: place for place, names in enumerate(layers) for name in names}
    upwards = set()
    for path in files_of(package):
        mine = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        if mine == "__init__":
            continue
        for name in imports_at_run_time(path):
            if name.startswith(f"preftree.{package}."):
                theirs = name.split(".")[2]
                if theirs != mine and rank[theirs] >= rank[mine]:
                    upwards.add((mine, theirs))
    assert not upwards


def imports_at_run_time(path: Path) -> Iterator[str]:
    """Dotted names of what is imported, with those of modules that come out of packages; not for types alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_pickle() -> None:
    for package in ("kernels", "engine", "labeling"):
        for path in files_of(package):
            assert not {"pickle", "marshal", "shelve"} & {top(name) for name in imports_of(path)}, path
            assert "torch.load" not in path.read_text(), path


LIGHT = (
    *("", "engine", "engine.errors", "kernels", "labeling", "labeling.judge.judge", "labeling.cli", "integrations"),
    *("labeling.training.job", "labeling.scaling.launch"),
)


@pytest.mark.parametrize("module", [f".{name}".rstrip(".") for name in LIGHT])
def test_imports_are_light(module: str) -> None:
    """Neither torch nor triton is imported until it is needed, and nothing in the process changes."""
    code = f"""
        import os, sys
        before = dict(os.environ)
        import preftree{module}
        sys.exit(bool({{'torch', 'triton', 'transformers', 'trl', 'ray'}} & sys.modules.keys()) or os.environ != before)
    """
    printed("-c", dedent(code))


def test_labels_need_no_triton() -> None:
    """The CPU path must stay usable where triton is not installed."""
    names = ("engine.engine", "labeling.runs.run", "kernels.cpu")
    printed("-c", f"import sys; sys.modules['triton'] = None; import preftree.{', preftree.'.join(names)}")


def test_public_names_are_there() -> None:
    """Each name of `preftree`, by the module that it is said to be in."""
    assert sorted(preftree.__all__) == sorted(preftree._HOMES)
    assert {*preftree.__all__} <= {*dir(preftree)}
    for name in preftree.__all__:
        assert getattr(preftree, name).__name__ in (name, f"{name}Options")
    with pytest.raises(AttributeError, match="module 'preftree' has no attribute 'Enigne'"):
        _ = preftree.Enigne


@pytest.mark.parametrize("is_behind_a_checkout", [False, True])
def test_a_foreign_kernels_package_is_left_alone(tmp_path: Path, is_behind_a_checkout: bool) -> None:
    """Another distribution has a package `kernels`."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("__version__ = '0.11'\n")
    (tmp_path / "kernels" / "layer.py").write_text("")
    places = [str(ROOT), str(tmp_path)] if is_behind_a_checkout else [str(tmp_path)]
    code = f"""
        import sys
        sys.path[:0] = {places!r}
        import preftree.kernels.tiles, kernels.layer
        assert kernels.__version__ == '0.11'
        assert kernels.layer.__file__.startswith({str(tmp_path)!r})
        assert preftree.kernels.__file__ != kernels.__file__
    """
    printed("-P", "-c", dedent(code), imports=())


def test_a_checkout_does_not_pass_for_the_foreign_package() -> None:
    """transformers asks for the file of a package without version: None is a folder that happens to be there."""
    code = "import kernels, preftree.kernels.tiles; sys.exit(kernels.__file__ is not None or len(kernels.__path__))"
    printed("-P", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}", imports=())
