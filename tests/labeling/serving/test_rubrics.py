"""Rewards by rubrics over HTTP and in reward functions: the rubric of the server, and that of each request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import preftree as pt
from preftree.engine.errors import InputError, UsageError
from preftree.integrations.trl import RewardFunction
from preftree.labeling.integrations.rewards import Rewards
from tests.labeling.serving.fakes import FakeJudge, serving
from tests.processes import ROOT

EXAMPLE = str(ROOT / "examples" / "rubric.yaml")
CRITERIA = [{"description": "Is short.", "weight": 3}, {"description": "Is rude.", "weight": -1}]
OTHERS = ["Is true.", "Is short."]
PROMPT, RESPONSE = "What is 2 + 2?", "It is 4."


def judge() -> Any:
    return FakeJudge()


def values(rubric: Any, response: str = RESPONSE) -> Any:
    """Of the library's label."""
    rows = [{"prompt": PROMPT, "response": response, "rubric": rubric}]
    (row,) = pt.label(rows, judge(), pt.Rubric(rubric_column="rubric"))
    assert row.label is not None
    return row.label.values()


def test_requests_bring_their_rubrics() -> None:
    """Catches a rubric that is ignored, and one without which a response is rewarded all the same."""
    with serving(judge(), method="rubric", rubric_column="rubric") as client:
        asked = {"prompt": PROMPT, "responses": [RESPONSE, "5"], "rubric": CRITERIA, "details": True}
        first, second = client("POST", "/reward", asked).body
        assert first["reward"] == values(CRITERIA)["reward"]
        assert first["score"] == values(CRITERIA)["score"]
        assert second["reward"] == values(CRITERIA, "5")["reward"]
        without = client("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE})
        assert without.status == 422
        assert without.error == ("response", "missing rubric: rubric is not there or null")
        empty = client("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE, "rubric": []})
        assert empty.error == ("response", "bad rubric: it holds no criteria")


def test_labels_can_be_rubrics() -> None:
    """Catches rubrics of OpenRLHF's and slime's protocol that go to another response."""
    with serving(judge(), method="rubric", rubric_column="label") as client:
        query = {"query": [PROMPT + RESPONSE] * 2, "prompts": [PROMPT] * 2, "labels": [CRITERIA, OTHERS]}
        expected = [values(CRITERIA)["reward"], values(OTHERS)["reward"]]
        assert client("POST", "/get_reward", query).body["rewards"] == expected
        assert client("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE, "label": OTHERS}).body == expected[1]
        assert client("POST", "/get_reward", {**query, "labels": [OTHERS]}).error == (
            "labels",
            "has 1 entries, query has 2",
        )


def test_one_rubric_for_all_requests() -> None:
    """Catches criteria without figures, and a rubric of a request that is ignored."""
    with serving(judge(), method="rubric", rubric=EXAMPLE) as client:
        found = client("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE, "details": True}).body
        assert {name for name in found if name.startswith("p_yes/")} == {
            *("p_yes/on task", "p_yes/correct", "p_yes/complete", "p_yes/brief", "p_yes/harmful", "p_yes/self-praise"),
        }
        refused = client("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE, "rubric": CRITERIA})
        assert (refused.status, refused.error[0]) == (422, "rubric")
        assert client("POST", "/compare", {"prompt": PROMPT, "responses": ["4", "5"]}).status == 400


def test_a_column_that_no_request_has() -> None:
    """Catches a server that would refuse every request."""
    with (
        pytest.raises(UsageError, match="--rubric-column must be a field of requests, rubric or label"),
        serving(judge(), method="rubric", rubric_column="criteria"),
    ):
        pass


def test_trl_gives_a_column_of_rubrics() -> None:
    """Catches rubrics that go to other completions, in the process and at a server, and None for a bad one."""
    columns: dict[str, Any] = {"prompts": [PROMPT] * 3, "completions": [RESPONSE] * 3, "mine": [CRITERIA, OTHERS, []]}
    expected = [values(CRITERIA)["reward"], values(OTHERS)["reward"], None]
    assert RewardFunction(judge(), method="rubric", rubric_column="mine")(**columns) == expected
    with serving(judge(), method="rubric", rubric_column="rubric") as client:
        url = f"http://{client.address[0]}:{client.address[1]}"
        assert RewardFunction(url=url, rubric_column="mine")(**columns) == expected
    with pytest.raises(InputError, match="completions come without rubrics; is there a column 'mine'"):
        RewardFunction(judge(), method="rubric", rubric_column="mine")([PROMPT], [RESPONSE])


def test_rewards_by_a_file_need_no_column(tmp_path: Path) -> None:
    """Catches a rubric in a file that a reward function does not read."""
    path = tmp_path / "rubric.json"
    path.write_text('["Is true.", "Is short."]')
    (found,) = Rewards(judge(), method="rubric", rubric=str(path)).score([PROMPT], [RESPONSE])
    assert found is not None
    assert found.value == values(OTHERS)["reward"]
    assert found.logs.keys() == {"score", "p_yes/Is true.", "p_yes/Is short.", "label_mass", "response_chars"}
