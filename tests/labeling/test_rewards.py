"""Rewards of completions: from a judge in the process and from a server, on their own and compared."""

from __future__ import annotations

import logging
import pickle
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

import preftree as pt
from preftree.labeling.integrations.dropping import dropped
from preftree.labeling.integrations.rewards import Rewards, log_columns
from preftree.labeling.principles.sets import PrincipleSet
from preftree.labeling.serving.rewards import Reward
from tests.labeling.serving import fakes

PROMPTS = ["Why?", "Why?", "Why?", "How?", "How?"]
COMPLETIONS = ["Because.", "No idea.", "Because.", "Like this.", "With care."]
UNDER: dict[str, Any] = {"method": "principled", "under": [["concise"], ["honest", "numerically sensitive"]]}


def fake_judge() -> Any:
    return fakes.FakeJudge()


def values(found: list[Reward | None]) -> list[float | None]:
    return [one.value if one else None for one in found]


def test_a_reward_is_that_of_the_library() -> None:
    """Catches a prompt that trainers' rewards see differently from labels, and a range other than [-1, 1]."""
    judge = fake_judge()
    rows = [{"prompt": prompt, "response": text} for prompt, text in zip(PROMPTS, COMPLETIONS, strict=True)]
    expected = [row.label.values()["reward"] for row in pt.label(rows, judge, "direct") if row.label]
    judge.calls.clear()
    found = Rewards(judge).score(PROMPTS, COMPLETIONS)
    assert values(found) == expected
    assert judge.calls == [5], "all completions are one call"
    assert len(set(expected)) == 4
    assert all(-1 <= reward <= 1 for reward in expected)


@pytest.mark.parametrize("options", [{}, {"method": "rlaif"}, UNDER, UNDER | {"compare": True, "guard": True}])
def test_a_server_gives_the_same_rewards(options: dict[str, Any]) -> None:
    """Catches a field that client and server understand differently, and rewards in another order."""
    here = Rewards(fake_judge(), **options).score(PROMPTS, COMPLETIONS)
    served = {name: value for name, value in options.items() if name != "compare"}
    with fakes.serving(fake_judge(), **served) as client:
        url = f"http://{client.address[0]}:{client.address[1]}/reward"
        compare = "compare" in options or options.get("method") == "rlaif"
        there = Rewards(url=url, compare=compare).score(PROMPTS, COMPLETIONS)
    assert None not in here
    assert values(there) == values(here)
    assert log_columns(there) == log_columns(here)


def test_chats_are_strings_with_roles() -> None:
    """Catches blocks of text and messages that are read as something else, or not at all."""
    rewards = Rewards(fake_judge())
    blocks = [{"role": "assistant", "content": [{"type": "text", "text": "Beca"}, {"type": "text", "text": "use."}]}]
    turn = {"role": "user", "content": "Why?", "tool_calls": None}
    chat = rewards.score([[turn], [turn]], [blocks, [{"role": "assistant", "content": "No idea."}]])
    assert values(chat) == values(rewards.score(PROMPTS[:2], COMPLETIONS[:2]))


def test_win_rates_are_those_of_all_pairs_with_identical_ones_as_ties() -> None:
    """Catches copies that are judged again, that count once, or that get rewards of their own."""
    judge = fake_judge()
    found = values(Rewards(judge, method="rlaif").score(PROMPTS, COMPLETIONS))
    assert judge.calls == [4], "a pair for each prompt, in both orders"
    (p,) = [row.label.values()["p_a"] for row in pt.label([pair("Why?", *COMPLETIONS[:2])], judge) if row.label]
    assert found[:3] == [pytest.approx((p + 0.5) / 2), pytest.approx(1 - p), pytest.approx((p + 0.5) / 2)]
    assert found[0] == found[2]
    assert found[3] + found[4] == 1.0  # type: ignore[operator]


def pair(prompt: str, a: str, b: str) -> dict[str, str]:
    return {"prompt": prompt, "response_a": a, "response_b": b}


def test_the_same_text_throughout_is_a_tie_and_one_alone_has_no_reward() -> None:
    """Catches a division by nothing, and a 0 for what cannot be compared."""
    rewards = Rewards(fake_judge(), method="rlaif")
    assert values(rewards.score(["Why?", "Why?", "How?"], ["So.", "So.", "So."])) == [0.5, 0.5, None]


@pytest.mark.parametrize("is_served", [False, True])
def test_what_cannot_be_scored_is_none_with_one_line(caplog: pytest.LogCaptureFixture, is_served: bool) -> None:
    """Catches a failure that becomes 0, one that takes its neighbours with it, and silence."""
    completions = ["Because.", "  ", "TOO LONG", "NOT FINITE", "No idea."]
    good = values(Rewards(fake_judge()).score(["Why?"] * 2, ["Because.", "No idea."]))
    with caplog.at_level(logging.WARNING, "preftree"), fakes.serving(fake_judge()) as client:
        url = f"http://{client.address[0]}:{client.address[1]}"
        rewards = Rewards(url=url) if is_served else Rewards(fake_judge())
        assert values(rewards.score(["Why?"] * 5, completions)) == [good[0], None, None, None, good[1]]
    said = [record.getMessage() for record in caplog.records if "no reward" in record.getMessage()]
    assert said == ["3 of 5 completions have no reward; the first is number 1: blank text: response"]
    with pytest.raises(pt.InputError, match="a completion has no reward: blank text: response"):
        Rewards(fake_judge()).of_one("Why?", " ")


def test_principles_that_are_dropped_follow_from_prompt_and_seed() -> None:
    """Catches draws that differ within a prompt, sets without any principle, and a share that is off."""
    sets = (
        PrincipleSet("one", tuple(f"Statement {number}." for number in range(40))),
        PrincipleSet("two", ("Alone.",)),
    )
    kept = [dropped(sets, f"prompt {number}", 0.3, 0) for number in range(50)]
    assert kept[0] == dropped(sets, "prompt 0", 0.3, 0) != dropped(sets, "prompt 0", 0.3, 1)
    assert len({one[0].statements for one in kept}) == 50
    assert sum(len(one[0].statements) for one in kept) / 2000 == pytest.approx(0.7, abs=0.03)
    assert all(one[1].statements == ("Alone.",) for one in kept)
    assert dropped(sets, "prompt 0", 0.0, 0) == sets


def test_dropping_changes_rewards_by_prompt_id() -> None:
    """Catches `drop` that reaches no prompt, and ids that are ignored."""
    under: dict[str, Any] = {"method": "principled", "under": [["concise", "honest", "numerically sensitive"]]}
    whole, fewer = (Rewards(fake_judge(), **under, drop=drop) for drop in (0.0, 0.6))
    ids = ["a", "b", "c", "d", "e"]
    prompts, completions = ["Why?"] * 5, ["Because."] * 5
    assert len(set(values(whole.score(prompts, completions, ids)))) == 1
    assert len(set(values(fewer.score(prompts, completions, ids)))) > 1
    assert len(set(values(fewer.score(prompts, completions)))) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give either a judge"),
        ({"judge": "embedded", "url": "http://here"}, "give either a judge"),
        ({"url": "here:5000"}, "'here:5000' is no URL of a server"),
        ({"url": "http://here", "guard": True}, "guard: the server judges as it was started"),
        ({"judge": fake_judge(), "prinicples": "all"}, "there is no option 'prinicples' for rewards; did you mean"),
        ({"judge": fake_judge(), "port": 80}, "there is no option 'port'"),
        ({"judge": fake_judge(), "dtype": "int8"}, "dtype: the judge is loaded already"),
        ({"judge": fake_judge(), "drop": 0.3}, "drop leaves principles out, which only method principled has"),
        ({"judge": fake_judge(), **UNDER, "drop": 3}, "drop must be a number from 0 to 1"),
        (
            {"judge": fake_judge(), "method": "direct", "compare": True},
            "compare is for methods that compare two responses",
        ),
        ({"judge": fake_judge(), "method": "salmon"}, "--method cannot be 'salmon'"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], said: str) -> None:
    """Catches an option that is ignored."""
    with pytest.raises(pt.UsageError) as caught:
        Rewards(**given).score(["Why?"], ["So."])
    assert said in str(caught.value)


def test_a_judge_that_scores_nothing_is_no_rows_fault(small_model: str) -> None:
    """Catches a trainer that learns from nothing while its judge is closed."""
    judge = pt.Judge.load(small_model)
    rewards = Rewards(judge)
    assert None not in rewards.score(PROMPTS, COMPLETIONS)
    judge.close()
    with pytest.raises(pt.InputError, match="this judge has no weights"):
        rewards.score(PROMPTS, COMPLETIONS)


def test_a_server_that_is_not_there_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a trainer that learns from nothing while its server is down."""
    waited: list[float] = []
    monkeypatch.setattr("preftree.labeling.integrations.remote.time.sleep", waited.append)
    with pytest.raises(pt.InputError, match=r"http://127.0.0.1:9: no answer in 5 tries: .*preftree serve"):
        Rewards(url="http://127.0.0.1:9").score(["Why?"], ["So."])
    assert waited == [1, 2, 4, 8]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'["a"]', b'{"reward": 1}', b'[{"rewards": 1}]'])
def test_another_server_is_not_believed(body: bytes) -> None:
    """Catches a traceback, and numbers from a server that is none of ours."""

    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for compare in (False, True):
            with pytest.raises(pt.InputError, match="its answer is not that of a preftree server"):
                Rewards(url=url, compare=compare).score(["Why?", "Why?"], ["So.", "No."])
        server.shutdown()


def test_a_token_is_sent(tmp_path: Any) -> None:
    """Catches a header that is left out, and a refusal that is taken for a row's."""
    (tmp_path / "token").write_text("secret\n")
    with fakes.serving(fake_judge(), token_file=str(tmp_path / "token")) as client:
        url = f"http://{client.address[0]}:{client.address[1]}"
        assert None not in Rewards(url=url, token="secret").score(["Why?"], ["So."])
        with pytest.raises(pt.UsageError, match="the token is missing or wrong"):
            Rewards(url=url).score(["Why?"], ["So."])


def test_rewards_pickle_as_what_they_were_given() -> None:
    """Catches a lock or a connection that keeps them from other processes."""
    made = pickle.loads(pickle.dumps(Rewards(url="http://here", compare=True, timeout=3.0)))
    assert made.compares
    assert made.__reduce__()[0].keywords == {
        "url": "http://here",
        "token": None,
        "timeout": 3.0,
        "compare": True,
        "drop": 0.0,
        "seed": 0,
    }
