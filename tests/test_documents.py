"""Tutorials and examples run as they stand, with the embedded model and tiny ones; see `tests.documents`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import Block, blocks
from tests.fork_server import trainers
from tests.models import CONFIG, SMALL_CONFIG, write_model
from tests.processes import ROOT

# The other one, of accepting labels, needs a judge that is worth the name, and people.
TUTORIALS = [
    f"docs/tutorial-{name}.md" for name in ("first-labels", "choosing-a-judge", "salmon", "grpo", "a-million-pairs")
]
FIRST_STEPS = "docs/reward-models.md"
EXAMPLES = sorted(f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py"))


def run(directory: Path, documents: list[str]) -> dict[str, list[str]]:
    """What each block of each document printed."""
    write_model(directory / "models" / "base", SMALL_CONFIG)
    write_model(directory / "models" / "policy", CONFIG)
    found: dict[str, list[str]] = trainers().answered("tests.documents", directory, *documents)
    return found


def names(kind: str, printed: str) -> set[str]:
    """What is the same on all machines: of commands what stands left of a gap or a colon, of Python longer words."""
    pattern = r"^([a-z][\w ,]*?)(?:  |:|$)" if kind == "sh" else r"[a-z_/]{4,}"
    return set(re.findall(pattern, printed, re.MULTILINE))


def assert_shown(page: str, part: Block, output: str) -> None:
    gone = names(part.kind, part.shown) - names(part.kind, output)
    assert not gone, f"{page} shows for\n{part.code}{gone}, which are not in\n{output}"


def test_tutorials_and_examples(tmp_path: Path) -> None:
    """Catches a step that the next one cannot take, and figures that are shown and no longer printed. One process and
    one test for all, since what they import and load takes longer than what they do.
    """
    found = run(tmp_path, [*TUTORIALS, FIRST_STEPS, *EXAMPLES])
    for name in TUTORIALS:
        parts = blocks((ROOT / name).read_text(encoding="utf-8"))
        assert sum(len(names(part.kind, part.shown)) for part in parts) >= 3, name
        for part, output in zip(parts, found[name], strict=True):
            assert_shown(name, part, output)
    commands, _ = blocks((ROOT / FIRST_STEPS).read_text(encoding="utf-8"))  # what follows is no output
    assert_shown(FIRST_STEPS, commands, found[FIRST_STEPS][0])
    assert all("".join(found[name]).strip() for name in EXAMPLES)
    assert re.search("^transformers .*, preftree ", found[FIRST_STEPS][-1], re.MULTILINE), "the trained model's reward"
    assert (tmp_path / "reward-models" / "rm" / "README.md").is_file()


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_is_short_and_goes_on(name: str) -> None:
    """Catches a tutorial that nobody finishes, and one that ends nowhere."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    assert re.search(r"^## Next\n\n(?:(?:- |  ).*\n)+\Z", text, re.MULTILINE)


def test_every_example_is_listed_and_short() -> None:
    """Catches a script that nobody finds, and one that is no example any more."""
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for name in EXAMPLES:
        assert f"]({Path(name).name})" in page, name
        assert 15 <= (ROOT / name).read_text(encoding="utf-8").count("\n") <= 40, name
