"""`preftree templates`: a table that lines up, and a file as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from preftree.engine.errors import InputError
from preftree.labeling.prompts.catalogue import load_template, template_names
from preftree.labeling.prompts.listing import template_lines

MINE = """---
description: >
  Two
  lines.
labels: [low, high]
values: [0, 1]
preamble: Rate it.
answer: "Answer: "
---
{{ prompt }} {{ response }} {{ principle }}
"""


def test_every_template_has_a_line() -> None:
    """Catches a template that is left out, and columns that a long name pushes out of line."""
    head, *both = template_lines(None)
    lines = [line for line in both if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == template_names()
    for column in ("asks about", "labels"):
        place = head.index(column)
        assert all(line[place - 2 : place] == "  " and line[place] != " " for line in lines), column
    described = {line.split()[0]: line for line in lines}
    assert "  one response  " in described["direct"]
    assert described["direct"].endswith("  1 ... 10")
    assert "  a pair  " in described["general"]
    assert described["general"].endswith("  1, 2")
    assert f"{described['general']}\n    {load_template('general').description}\n" in "\n".join(both)


def test_a_template_is_shown_as_it_is_written(tmp_path: Path) -> None:
    """Catches a parsed and printed-again file, whose comments and order are gone."""
    [shown] = template_lines("general")
    assert shown + "\n" == load_template("general").source
    mine = tmp_path / "mine.txt"
    mine.write_text(MINE)
    assert list(template_lines(str(mine))) == [mine.read_text().rstrip("\n")]


def test_a_description_cannot_steer_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches escape sequences and line breaks of a file, in the file itself and in the table."""
    mine = tmp_path / "mine.txt"
    mine.write_text(MINE.replace("Rate it.", "Rate \u202eit."))
    assert "Rate \\u202eit." in next(iter(template_lines(str(mine))))
    monkeypatch.setattr("preftree.labeling.prompts.catalogue.TEMPLATE_DIRECTORY", tmp_path)
    _, line, description = template_lines(None)
    assert (line, description) == ("mine  one response, a principle  low, high", "    Two lines.")


def test_mistakes_are_named_with_their_line(tmp_path: Path) -> None:
    """Catches a broken file that is printed as if it could be used, and a name that nobody knows."""
    mine = tmp_path / "mine.txt"
    mine.write_text(MINE.replace("labels", "lables"))
    with pytest.raises(InputError, match=rf"^{mine}:5: unknown front matter key 'lables'"):
        list(template_lines(str(mine)))
    with pytest.raises(InputError, match="neither a file nor one of: direct, "):
        list(template_lines("nosuch"))
