"""docs/ as a website: it builds without a warning, needs nothing from elsewhere, and its pages leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import preftree
from preftree.labeling.commands.table import COMMANDS
from preftree.labeling.options.option import declared, spelled
from tests.processes import ROOT, run_python
from website.api import MODULES, PAGES, api_pages
from website.commands import cell, command_pages
from website.repository import place, rewritten

LOADED = r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="?(?:https?:)?//|<link\b[^>]*\bhref="?(?:https?:)?//"""


def test_the_site_builds_and_needs_no_network(tmp_path: Path) -> None:
    """Catches a page that no list has, a broken link or heading, a docstring that cannot be shown, a font of others.

    It takes some ten seconds, and is all that a change of docs/ can break.
    """
    command = ("-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path)
    done = run_python(*command, own={"NO_MKDOCS_2_WARNING": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pages = {
        path.relative_to(tmp_path).as_posix(): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")
    }
    assert {f"commands/{name}.html" for name in COMMANDS} | {f"api/{name}.html" for name in api_pages()} <= pages.keys()
    assert [(name, found) for name, page in pages.items() for found in re.findall(LOADED, page)] == []
    assert "Log-probabilities of labels after prompts" in pages["api/engine.html"]
    assert "RewardFunction" in pages["api/integrations.html"]
    assert (tmp_path / "repository" / "examples" / "scale" / "slurm-array.sh").is_file()


def test_commands_are_complete() -> None:
    """Catches an option that a page leaves out, and one that a command does not have."""
    pages = command_pages(COMMANDS)
    for name, command in COMMANDS.items():
        shown = set(re.findall(r"^\| `([^` ]+)", pages[name], re.MULTILINE))
        for one, option in declared(command.options).items():
            flag = spelled(one, option).replace("|", "\\|")
            flags = {flag, f"--no-{flag[2:]}", *(f"--{value}" for value in option.switches)}
            assert bool(shown & flags) == (one not in command.hides), (name, one)
    assert "\\|" in cell("a|b")
    assert cell("a *b* `c*`") == "a \\*b\\* `c*`"


def test_the_api_is_complete() -> None:
    """Catches a name that the package offers and no page has."""
    assert sorted(name for _, names in PAGES.values() for name in names) == sorted(preftree.__all__)
    modules = {path.stem for path in (ROOT / "preftree" / "integrations").glob("[a-z]*.py")}
    assert set(MODULES["integrations"][1]) == modules
    pages = api_pages()
    assert "::: preftree.Judge" in pages["models"]
    assert "| `aggregate` |" in pages["methods"]


def test_links_out_of_docs_are_moved() -> None:
    """Catches a link that the checkout has and the website has not."""
    assert place("benchmarks/results") == "repository/benchmarks/results.md"
    assert rewritten("runs.md", "[a](../README.md) [b](limits.md#runs) [c](#d)") == (
        "[a](repository/README.md) [b](limits.md#runs) [c](#d)"
    )
    assert rewritten("repository/README.md", "[a](docs/runs.md#d)") == "[a](../runs.md#d)"
    assert rewritten("repository/benchmarks/results.md", "[a](results/x.md)") == "[a](results/x.md)"
