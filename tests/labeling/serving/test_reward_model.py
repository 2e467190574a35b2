"""A server in front of a reward model."""

from __future__ import annotations

from pathlib import Path

import preftree as pt
from preftree.labeling.judge.reward_model import RewardModel
from preftree.labeling.serving.texts import Markup
from tests.labeling.reward_models import write_reward_model
from tests.labeling.serving.fakes import serving

PROMPT, RESPONSES = "Which way is north?", ["Up there.", "Where the moss is."]


def test_rewards_have_the_bits_of_the_library(tmp_path: Path) -> None:
    """Catches a reward model that is asked for labels, and rewards of another text."""
    model = RewardModel.load(str(write_reward_model(tmp_path / "model")), dtype="float32")
    rows = [{"prompt": PROMPT, "response": response} for response in RESPONSES]
    expected = [row.label.values()["reward"] for row in pt.label(rows, model, "reward") if row.label]
    markup = Markup.of_judge(model, (), None)
    rendered = f"{markup.before}{PROMPT}{markup.split}{RESPONSES[0]}</s>"
    with serving(model, method="reward") as client:
        as_verl = client("POST", "/classify", {"input": rendered}).body
        found = [client("POST", "/reward", {"prompt": PROMPT, "response": one}).body for one in RESPONSES]
        refused = client("PUT", "/principles", {"sets": [["concise"]]})
        compared = client("POST", "/compare", {"prompt": PROMPT, "responses": RESPONSES})
    assert found == expected
    assert as_verl["data"][0]["probs"] == expected[:1]
    assert refused.status == 422
    assert "follows no principles here" in str(refused.body)
    assert compared.status == 400
