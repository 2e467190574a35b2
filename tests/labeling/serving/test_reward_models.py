"""A reward model behind the server, and principles that are drawn for each prompt."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

import preftree as pt
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.judge.reward_model import RewardModel
from preftree.labeling.methods.reward_labels import RewardLabel
from preftree.labeling.serving.texts import Markup
from preftree.labeling.types import ScoreRequest
from tests.labeling.fakes import FakeEncoded
from tests.labeling.serving.fakes import FakeJudge, serving
from tests.labeling.test_reward import write_reward_model

PROMPT, RESPONSES = "Which way is north?", ["Up there.", "Where the moss is."]


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reward_model(tmp_path_factory.mktemp("rewards") / "model")


def test_rewards_of_a_reward_model(reward_model: Path) -> None:
    """Catches a reward that is another one's, and a rendered conversation whose response begins elsewhere."""
    with RewardModel.load(str(reward_model)) as model:
        labels = pt.label([{"prompt": PROMPT, "responses": RESPONSES}], model, "reward")
        (expected,) = [row.label.rewards for row in labels if isinstance(row.label, RewardLabel)]
        markup = Markup.of_judge(cast(AnyJudge, model), (), None, is_reward_model=True)
        rendered = f"{markup.before}{PROMPT}{markup.split}{RESPONSES[0]}"
        with serving(model, method="reward", strip=("</s>",)) as client:
            asked = {"prompt": PROMPT, "responses": RESPONSES}
            assert client("POST", "/reward", asked).body == list(expected)
            one = client("POST", "/classify", {"input": f"{rendered}</s>"}).body["data"][0]["probs"]
            assert one == [expected[0]]
            assert client("POST", "/compare", asked).status == 400
            assert client("PUT", "/principles", {"sets": [["concise"]]}).status == 422


def test_principles_are_drawn_by_prompt() -> None:
    """Catches responses to one prompt that are judged by different principles, and prompts that all have the same."""
    options = {"method": "principled", "principles": "labelled", "draw": 2, "guard": True}
    prompts = [f"Question {number}?" for number in range(6)]
    drawn: list[str] = []

    class Judge(FakeJudge):
        """Keeps what principles it was shown."""

        def encode(self, request: ScoreRequest) -> FakeEncoded:
            drawn.append("\n".join(line for line in request.user.splitlines() if line.startswith("- ")))
            return super().encode(request)

    with serving(Judge(), **options) as client:
        drawn.clear()
        for prompt in prompts:
            assert client("POST", "/reward", {"prompt": prompt, "responses": RESPONSES}).status == 200
        digest = client("GET", "/principles").body["sha256"]
    assert drawn[::2] == drawn[1::2]
    assert len(set(drawn)) > 1
    assert all(text.count("\n") == 2 + 3 - 1 for text in drawn)
    with serving(FakeJudge(), **options, draw_seed=1) as client:
        assert client("GET", "/principles").body["sha256"] != digest
