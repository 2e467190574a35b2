"""The Python of the README and of docs/ runs as it stands, their commands parse, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from preftree.engine.model_table import model_table
from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
PYTHON = [(name, code) for name, text in TEXTS.items() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page}-{place}" for place, (page, _) in enumerate(PYTHON)])
def test_python_examples_run(page: str, code: str) -> None:
    exec(compile(code, page, "exec"), {})


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page: str) -> None:
    """Catches a command, flag or value that is not there."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", TEXTS[page].replace("\\\n", " "), re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^preftree (.*?)(?:\s+#.*)?$", "\n".join(blocks), re.MULTILINE)
    assert page != "README.md" or len(lines) >= 3
    for line in lines:
        parse(COMMANDS, shlex.split(line))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Catches a file that has moved, and a section that has another heading."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", TEXTS[page]):
        name, _, section = target.partition("#")
        path = (PAGES[page].parent / name).resolve() if name else PAGES[page]
        assert path.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert section in slugs, target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in TEXTS.values():
        for target in re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_table_of_models_is_that_of_the_registries() -> None:
    """Catches a family that runs and is not in the README, and one that is there and does not run."""
    rows = re.findall(r"(?:^\|.*\n)+", TEXTS["README.md"].split("## Models\n")[1], re.MULTILINE)
    assert rows[0] == model_table(), "put in what `python -m preftree.engine.model_table` prints"
