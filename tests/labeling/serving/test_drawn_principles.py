"""Principles that are drawn for each prompt of a server's clients."""

from __future__ import annotations

from preftree.labeling.types import ScoreRequest
from tests.labeling.fakes import FakeEncoded
from tests.labeling.serving.fakes import FakeJudge, serving

RESPONSES = ["Up there.", "Where the moss is."]


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
