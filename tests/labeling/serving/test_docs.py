"""The page about the server."""

from __future__ import annotations

import json
import re

from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS
from tests.labeling.serving.fakes import FakeJudge, serving
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")


def test_requests_on_the_page_are_answered() -> None:
    """Catches a protocol that changed and a page that did not."""
    asked = re.findall(r"^    curl (?:-X (\w+) )?localhost:5000(\S+) .*-d '(.*)'\n    (.*)$", PAGE, re.MULTILINE)
    assert len(asked) == 5
    with serving(FakeJudge(), method="principled", under=(("concise",),), strip=("<|im_end|>",)) as client:
        for method, path, body, shown in asked:
            answer = client(method or "POST", path, json.loads(body))
            assert answer.status == 200
            expected = json.loads(shown)
            assert type(answer.body) is type(expected)
            assert not isinstance(expected, dict) or answer.body.keys() == expected.keys()


def test_commands_on_the_page_exist() -> None:
    """Catches an option that was renamed."""
    lines = re.findall(r"^    preftree (.*?)(?:\s+#.*)?$", PAGE, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        parse(COMMANDS, line.split())
