"""The Python of the README and of docs/ runs as it stands, their commands parse, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from preftree import Engine
from preftree.engine.model_table import family_list, model_table
from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS
from tests.documents import one_embedded_model

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
LINKED = {**PAGES, **{name: ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")}}
PYTHON = [(name, code) for name, text in TEXTS.items() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


@pytest.fixture(scope="module")
def one_engine(embedded_engine: Engine) -> Iterator[None]:
    """Loading the embedded model for each example takes longer than what they do."""
    with one_embedded_model(embedded_engine):
        yield


@pytest.mark.usefixtures("one_engine")
@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page}-{place}" for place, (page, _) in enumerate(PYTHON)])
def test_python_examples_run(page: str, code: str) -> None:
    """Catches an example that the library has outgrown."""
    exec(compile(code, page, "exec"), {})


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page: str) -> None:
    """Catches a command, flag or value that is not there."""
    text = TEXTS[page].replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^(?:.* \| )?preftree (.*?)(?:\s+#.*)?$", "\n".join(blocks), re.MULTILINE)
    lines += re.findall(r"^ {4}preftree (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert page != "README.md" or len(lines) >= 3
    for line in lines:
        parse(COMMANDS, shlex.split(line))


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_somewhere(page: str) -> None:
    """Catches a file that has moved, and a section that has another heading."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", LINKED[page].read_text(encoding="utf-8")):
        name, _, section = target.partition("#")
        path = (LINKED[page].parent / name).resolve() if name else LINKED[page]
        assert path.exists(), target
        if section:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert section in slugs, target


def test_make_targets_exist() -> None:
    """Catches a target that is named, in a block or in the middle of a sentence, and not there."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for text in TEXTS.values():
        blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        for target in [*re.findall(r"^make (\w+)", blocks, re.MULTILINE), *re.findall(r"`make (\w+)", text)]:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_models_are_those_of_the_registries() -> None:
    """Catches a family that runs and is in no document, and one that is there and does not run."""
    (line,) = re.findall(r"^(?:`\w+`, )+`\w+`$", TEXTS["README.md"], re.MULTILINE)
    rows = re.findall(r"(?:^\|.*\n)+", TEXTS["models.md"].split("## Families\n")[1], re.MULTILINE)
    printed = "put in what `python -m preftree.engine.model_table` prints"
    assert (line, rows[0]) == (family_list(), model_table()), printed


def test_the_readme_is_short() -> None:
    """Catches what belongs into docs/."""
    assert TEXTS["README.md"].count("\n") <= 150
    assert len(TEXTS["README.md"].split()) <= 1600


@pytest.mark.parametrize("page", LINKED)
def test_files_and_modules_exist(page: str) -> None:
    """Catches a figure whose command is gone, and a test, a file or a module that has moved."""
    text = LINKED[page].read_text(encoding="utf-8")
    for module in re.findall(r"python -m (benchmarks[\w.]*|preftree\.[\w.]+)", text):
        path = ROOT / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), module
    for name in re.findall(r"`((?:tests|benchmarks|labeling|engine|kernels|examples|docs|website)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", [name for name in PAGES if name != "README.md"])
def test_pages_are_short(page: str) -> None:
    """Catches a page that should be two."""
    assert TEXTS[page].count("\n") <= 210


def test_pictures_say_what_they_show() -> None:
    """Catches a picture without a title or a description for those who do not see it, and one that dark pages hide."""
    pictures = sorted((ROOT / "docs" / "images").glob("*.svg"))
    assert pictures
    for picture in pictures:
        root = ElementTree.parse(picture).getroot()
        assert [child.tag.partition("}")[2] for child in root][:2] == ["title", "desc"], picture
        assert all(len(child.text or "") > 10 for child in list(root)[:2]), picture
        assert "prefers-color-scheme: dark" in picture.read_text(encoding="utf-8"), picture
        assert any(f"images/{picture.name})" in text for text in TEXTS.values()), picture


@pytest.mark.parametrize("index", ["README.md", "index.md"])
def test_every_page_is_listed(index: str) -> None:
    """Catches a page that nobody finds."""
    links = re.findall(r"\]\((?:docs/)?([\w-]+\.md)\)", TEXTS[index])
    assert set(PAGES) - {"README.md", "index.md"} <= set(links)
