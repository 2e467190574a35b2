"""Files and scripts that README and docs/ show: each is read by what reads it in earnest."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from preftree.labeling.data.dataset import Dataset
from preftree.labeling.principles.file import parse_principles
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.rubrics.file import parse_rubric
from preftree.labeling.types import Rejected
from tests.test_readme import ROOT, TEXTS

BLOCKS = [
    (page, language, content)
    for page, text in TEXTS.items()
    for language, content in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
]


def blocks(language: str) -> list[tuple[str, str]]:
    return [(page, content) for page, its, content in BLOCKS if its == language]


def test_every_language_is_checked() -> None:
    """Catches a block in a language that no test here or in test_readme.py reads. "text" is output and formulas."""
    assert {language for _, language, _ in BLOCKS} <= {"", "text", "sh", "python", "py", "json", "yaml"}


@pytest.mark.parametrize(("page", "content"), blocks("py"))
def test_excerpts_import_what_is_there(page: str, content: str) -> None:
    """Catches an excerpt, which needs another framework, with a name of preftree that has gone."""
    for node in ast.walk(ast.parse(content, page)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("preftree"):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, name.name) for name in node.names), (page, ast.unparse(node))


@pytest.mark.parametrize(("page", "content"), blocks("json"))
def test_rows_are_read(page: str, content: str, tmp_path: Path) -> None:
    """Catches a row or a rubric in JSON that is refused."""
    if page == "rubrics.md":
        assert all(parse_rubric(line, page).criteria for line in content.splitlines())
        return
    (tmp_path / "rows").write_text(content, encoding="utf-8")
    rows = list(Dataset.open(tmp_path / "rows").read())
    assert rows
    assert not [row for row in rows if isinstance(row, Rejected)]


@pytest.mark.parametrize(("page", "content"), blocks("yaml"))
def test_principles_are_read(page: str, content: str) -> None:
    """Catches a field of principles that is gone."""
    assert parse_principles(content, page)


TEMPLATES = [(page, content) for page, content in blocks("") if content.startswith("---\n")]


@pytest.mark.parametrize(("page", "content"), TEMPLATES)
def test_templates_are_read(page: str, content: str, tmp_path: Path) -> None:
    """Catches a template with a field or a variable that is gone."""
    assert len(TEMPLATES) >= 2
    (tmp_path / "shown.txt").write_text(content, encoding="utf-8")
    assert load_template(str(tmp_path / "shown.txt")).labels


def test_extras_exist() -> None:
    """Catches an extra in `pip install 'preftree[...]'` that the package does not have."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = set(re.findall(r"preftree\[(\w+)\]", "\n".join(TEXTS.values())))
    assert named
    assert named <= extras.keys()


def test_benchmarks_have_their_flags() -> None:
    """Catches the command of a figure with a flag that the benchmark no longer has."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").rglob("*.py"))
    lines = re.findall(r"python -m benchmarks\.[\w.]+([^`\n#]*)", "\n".join(TEXTS.values()))
    flags = {flag for line in lines for flag in re.findall(r"--[\w-]+", line)}
    assert flags
    assert {flag for flag in flags if f'"{flag}"' not in sources} == set()
