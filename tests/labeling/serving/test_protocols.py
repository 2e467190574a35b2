"""Each protocol of the server as its client speaks it, and what is said of requests that cannot be answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import preftree as pt
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.score_labels import DirectLabel
from preftree.labeling.methods.set_labels import SetsLabel
from preftree.labeling.types import PairLabel
from tests.labeling.serving.fakes import Client, FakeJudge, serving

JUDGE = cast(AnyJudge, FakeJudge())
PROMPT, RESPONSE = "What is 2 + 2?", "It is 4."
SETS = (("concise",), ("honest", "The response should be kind."))


@pytest.fixture(scope="module")
def direct() -> Iterator[Client]:
    with serving(FakeJudge(), strip=("<|end|>",)) as client:
        yield client


@pytest.fixture(scope="module")
def principled() -> Iterator[Client]:
    with serving(FakeJudge(), method="principled", under=SETS, guard=True) as client:
        yield client


def reward(prompt: Any = PROMPT, response: str = RESPONSE) -> float:
    """As the library has it."""
    label = pt.label([{"prompt": prompt, "response": response}], JUDGE, "direct")[0].label
    assert isinstance(label, DirectLabel)
    return label.scores[0].reward


def test_rewards_of_slime(direct: Client) -> None:
    """Catches a reward that is not the bare number of the library, and a chat whose turns are lost."""
    answer = direct("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE, "label": "4"})
    assert answer[:2] == (200, reward())
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    assert direct("POST", "/reward", {"prompt": chat, "response": RESPONSE}).body == reward(chat) != reward()
    several = direct("POST", "/reward", {"prompt": PROMPT, "responses": [RESPONSE, "5"]})
    assert several.body == [reward(), reward(response="5")]


def test_rewards_of_openrlhf(direct: Client) -> None:
    """Catches a response that still has its prompt, or the end of its turn, and figures that are no scalars."""
    query = {"query": [f"{PROMPT}{RESPONSE}<|end|>\n", f"{PROMPT}5"], "prompts": [PROMPT] * 2, "labels": ["", ""]}
    answer = direct("POST", "/get_reward", query)
    assert answer.status == 200
    assert answer.body["rewards"] == answer.body["scores"] == [reward(), reward(response="5")]
    assert answer.body["extra_logs"].keys() == {"label_mass", "entropy", "response_chars"}
    assert all(isinstance(value, float) for value in answer.body["extra_logs"].values())


@pytest.mark.parametrize(
    ("path", "where"), [("/classify", "probs"), ("/v1/embeddings", "embedding")], ids=["classify", "embeddings"]
)
def test_rewards_of_verl(direct: Client, path: str, where: str) -> None:
    """Catches an answer in another shape than vLLM's, and a split that is not where the judge's template has it."""
    rendered = f"<|user|>{PROMPT}<|end|><|assistant|>{RESPONSE}<|end|>"
    asked = {"model": "any", "input": rendered, "use_activation": False}
    answer = direct("POST", path, asked)
    assert answer.status == 200
    assert answer.body["data"][-1][where][-1] == reward()
    assert answer.body["object"] == "list"
    assert answer.body["usage"]["prompt_tokens"] > 0
    messages = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": RESPONSE}]
    assert direct("POST", path, {"messages": messages}).body["data"][0][where] == [reward()]


def test_rewards_under_sets_of_principles(principled: Client) -> None:
    """Catches sets that do not all count, and guards that are left out of one."""
    asked = {"prompt": PROMPT, "response": RESPONSE, "details": True}
    answer = principled("POST", "/reward", asked).body
    rows = [{"prompt": PROMPT, "response": RESPONSE}]
    label = pt.label(rows, JUDGE, pt.Principled(under=SETS, guard=True))[0].label
    assert isinstance(label, SetsLabel)
    rewards = [one.scores[0].reward for one in label.labels if isinstance(one, DirectLabel)]
    assert [answer[f"reward/{name}"] for name in label.names] == rewards
    assert answer["reward"] == pytest.approx(sum(rewards) / 2)
    assert all("no-self-praise" in name for name in label.names)


def test_a_group_is_compared_in_both_orders() -> None:
    """Catches a win rate that depends on which response is shown first."""
    responses = ["4", "5", "6"]
    with serving(FakeJudge(), method="rlaif") as client:
        found = client("POST", "/compare", {"prompt": PROMPT, "responses": responses}).body
        swapped = client("POST", "/compare", {"prompt": PROMPT, "responses": responses[::-1]}).body
        assert client("POST", "/reward", {"prompt": PROMPT, "response": "4"}).error[1].startswith("method rlaif")
    rows = [{"prompt": PROMPT, "response_a": a, "response_b": b} for a, b in (("4", "5"), ("4", "6"), ("5", "6"))]
    p = [row.label.p_a for row in pt.label(rows, JUDGE) if isinstance(row.label, PairLabel)]
    assert found["win_matrix"] == [[None, p[0], p[1]], [1 - p[0], None, p[2]], [1 - p[1], 1 - p[2], None]]
    assert found["win_rates"] == [(p[0] + p[1]) / 2, (1 - p[0] + p[2]) / 2, (1 - p[1] + 1 - p[2]) / 2]
    assert swapped["win_rates"] == pytest.approx(found["win_rates"][::-1], abs=1e-12)


def test_fewer_comparisons() -> None:
    """Catches --comparisons that changes nothing, or leaves a response without an opponent."""
    with serving(FakeJudge(), method="principled", under=SETS, comparisons=6) as client:
        found = client("POST", "/compare", {"prompt": PROMPT, "responses": ["4", "5", "6", "7"]}).body
    assert sum(p is not None for row in found["win_matrix"] for p in row) == 6
    assert len(found["win_rates"]) == 4


def test_principles_are_replaced_while_it_runs(principled: Client) -> None:
    """Catches a hash that is not of the principles that the reward was made under."""
    before = principled("GET", "/principles")
    asked = ("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE})
    first = principled(*asked)
    assert first.headers["x-preftree-principles"] == before.body["sha256"]
    other = principled("PUT", "/principles", {"sets": [["honest"]]})
    assert other.status == 200
    assert [one["name"].split(" + ")[0] for one in other.body["sets"]] == ["honest"]
    second = principled(*asked)
    assert second.headers["x-preftree-principles"] == other.body["sha256"] != before.body["sha256"]
    assert second.body != first.body
    again = principled("PUT", "/principles", {"sets": [list(members) for members in SETS]})
    assert again.body == before.body
    assert principled(*asked).body == first.body


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        ([], "at least 1 item"),
        ([["concize"]], "no principle 'concize'"),
        ([["concise"], ["concise"]], "two sets of principles are the same"),
    ],
)
def test_principles_that_mean_nothing_change_nothing(principled: Client, sets: Any, reason: str) -> None:
    """Catches principles that are replaced by half of a bad request."""
    before = principled("GET", "/principles").body
    answer = principled("PUT", "/principles", {"sets": sets})
    assert (answer.status, answer.error[0]) == (422, "sets")
    assert reason in answer.error[1]
    assert principled("GET", "/principles").body == before


def test_what_the_method_cannot_do_is_said(direct: Client) -> None:
    """Catches a route that fails where the method lacks a part."""
    answer = direct("POST", "/compare", {"prompt": PROMPT, "responses": ["4", "5"]})
    assert (answer.status, answer.error[1][:34]) == (400, "method direct compares no responses"[:34])
    answer = direct("PUT", "/principles", {"sets": [["concise"]]})
    assert (answer.status, "follows no principles here" in answer.error[1]) == (422, True)
    assert direct("GET", "/principles").body["sha256"] is None


BAD: list[tuple[str, Any, int, str | None, str]] = [
    ("/reward", b"{", 400, None, "broken JSON"),
    ("/reward", b'{"prompt": "a", "prompt": "b", "response": "c"}', 400, None, "duplicate key"),
    ("/reward", b'{"prompt": "a", "response": "\\ud800"}', 400, None, "lone surrogate"),
    ("/reward", b"[" * 200_000, 400, None, "nested too deeply"),
    ("/reward", b"\xff", 400, None, "invalid UTF-8"),
    ("/reward", {"prompt": PROMPT, "response": "a", "answer": "b"}, 422, "answer", "not permitted"),
    ("/reward", {"prompt": PROMPT}, 422, None, "either response or responses"),
    ("/reward", {"prompt": PROMPT, "responses": []}, 422, "responses", "at least 1 item"),
    ("/reward", {"prompt": PROMPT, "responses": ["a", " "]}, 422, "responses[1]", "blank"),
    ("/reward", {"prompt": PROMPT, "response": 4}, 422, "response", "valid string"),
    ("/reward", {"prompt": 4, "response": "a"}, 422, "prompt", "must be a string or a list of messages"),
    ("/reward", {"prompt": [], "response": "a"}, 422, "prompt", "empty"),
    ("/reward", {"response": "a"}, 422, "prompt", "required"),
    ("/reward", {"prompt": PROMPT, "response": "TOO LONG"}, 422, "response", "context is 8,192"),
    ("/reward", {"prompt": PROMPT, "response": "NOT FINITE"}, 500, None, "not finite"),
    ("/reward", {"prompt": PROMPT, "response": "BOOM"}, 500, None, "internal error: RuntimeError"),
    ("/get_reward", {"query": ["b"], "prompts": ["a"]}, 422, "query[0]", "does not begin with prompts[0]"),
    ("/get_reward", {"query": ["ab"], "prompts": []}, 422, "prompts", "has 0 entries, query has 1"),
    ("/get_reward", {"query": [], "prompts": []}, 422, "query", "at least 1 item"),
    ("/get_reward", {"query": ["a<|end|>"], "prompts": ["a"]}, 422, "query[0]", "its response is blank"),
    ("/classify", {"input": "no turn"}, 422, "input[0]", "does not contain"),
    ("/classify", {"input": "x", "use_activation": True}, 422, "use_activation", "False"),
    ("/classify", {}, 422, None, "either input or messages"),
    ("/compare", {"prompt": PROMPT, "responses": ["a"]}, 422, "responses", "at least 2 items"),
    ("/nowhere", {}, 404, None, "Not Found"),
]


@pytest.mark.parametrize(("path", "body", "status", "field", "reason"), BAD)
def test_bad_requests(direct: Client, path: str, body: Any, status: int, field: str | None, reason: str) -> None:
    """Catches a reward for what cannot be scored, a traceback, and a refusal that does not say of what."""
    answer = direct("POST", path, body)
    assert answer.status == status
    assert answer.error[0] == field
    assert reason in answer.error[1]
    assert direct("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE}).body == reward()


FIELDS = (
    "prompt",
    "response",
    "responses",
    "query",
    "prompts",
    "labels",
    "input",
    "messages",
    "sets",
    "role",
    "content",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=JSON, route=st.sampled_from(["/get_reward", "/reward", "/classify", "/compare", "/principles"]))
def test_any_body_has_an_answer(direct: Client, body: Any, route: str) -> None:
    """Catches a type that a route stumbles over."""
    answer = direct("PUT" if route == "/principles" else "POST", route, body)
    assert answer.status in (200, 400, 422)
    assert answer.status == 200 or answer.error[1]


def test_pages_about_the_server(direct: Client) -> None:
    """Catches metrics that do not count, and a description of the interface that lacks a route."""
    health = direct("GET", "/health").body
    assert health == {"status": "ok", "model": "fake", "method": "direct", "waiting": 0}
    direct("POST", "/reward", {"prompt": PROMPT, "response": RESPONSE})
    lines = direct("GET", "/metrics").body.splitlines()
    counted = [line for line in lines if line.startswith('preftree_requests_total{path="/reward",status="200"}')]
    assert float(counted[0].split()[-1]) >= 1
    paths = direct("GET", "/openapi.json").body["paths"]
    assert paths.keys() >= {"/get_reward", "/reward", "/classify", "/v1/embeddings", "/compare", "/principles"}
