"""Trainers' own code calls preftree's functions: TRL's trainers, and the reward clients of OpenRLHF and verl."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from preftree import Judge
from preftree.labeling.integrations.rewards import Rewards
from tests.fork_server import trainers
from tests.labeling.serving import fakes
from tests.models import CONFIG, write_model


def trained(kind: str, policy: str, judge: str) -> dict[str, Any]:
    found: dict[str, Any] = trainers().answered("tests.labeling.trainer_steps", kind, policy, judge)
    return found


def assert_rewarded(found: dict[str, Any], judge: str) -> None:
    """Two steps were made with the library's own rewards."""
    first, second, _ = found["logs"]
    for step in (first, second):
        assert step["rewards/compared/mean"] == pytest.approx(0.5)
        assert step["direct/unscored"] == step["compared/unscored"] == 0
        assert 0 < step["direct/label_mass"] <= 1
        assert step["reward_std"] > 0
    with Judge.load(judge, dtype="float32") as loaded:
        rewards = Rewards(loaded)
        for call, step in zip(found["calls"], (first, second), strict=True):
            expected = [one.value for one in rewards.score(call["prompts"], call["completions"]) if one]
            assert call["rewards"] == expected
            assert step["rewards/direct/mean"] == pytest.approx(sum(expected) / len(expected))
            assert call["id"][0] == call["id"][1] != call["id"][2]


def test_grpo_runs_two_steps(tmp_path: Path, small_model: str) -> None:
    """Catches a function that TRL's trainer cannot call, and rewards that are not the library's."""
    policy = str(write_model(tmp_path / "policy", CONFIG))
    assert_rewarded(trained("GRPO", policy, small_model), small_model)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_trainers_run_with_the_embedded_judge(tmp_path: Path, kind: str) -> None:
    """The same with a judge of natural language, and with TRL's other trainer."""
    policy = str(write_model(tmp_path / "policy", CONFIG))
    assert_rewarded(trained(kind, policy, "embedded"), "embedded")


@contextmanager
def hollow(monkeypatch: pytest.MonkeyPatch, name: str, *inside: str) -> Iterator[None]:
    """Packages whose __init__ is not run, which imports Ray and more. Skips where they are not installed."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{name} is not installed")
    home = Path(found.submodule_search_locations[0])
    with monkeypatch.context() as patch:
        for package in (name, *inside):
            module = ModuleType(package)
            module.__path__ = [str(home.joinpath(*package.split(".")[1:]))]
            patch.setitem(sys.modules, package, module)
        yield


@pytest.mark.soak
def test_openrlhfs_client_gets_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a file that OpenRLHF does not load, and answers of function and server that differ."""
    pytest.importorskip("aiohttp")
    file = tmp_path / "reward.py"
    file.write_text(
        "from tests.labeling.serving.fakes import FakeJudge\n"
        "from preftree.integrations.openrlhf import reward_function\n"
        "reward_func = reward_function(FakeJudge(), strip=['<|end|>'])\n"
    )
    asked = ["Why?<|end|>Because.<|end|>"], ["Why?<|end|>"], ["label"]
    (expected,) = Rewards(made_up_judge()).score(["Why?"], ["Because."])
    with (
        hollow(monkeypatch, "openrlhf", "openrlhf.utils"),
        fakes.serving(made_up_judge(), strip=("<|end|>",)) as client,
    ):
        agent: Any = import_module("openrlhf.utils.agent")
        url = f"http://{client.address[0]}:{client.address[1]}/get_reward"
        (by_file,) = asyncio.run(agent.SingleTurnAgentExecutor(str(file))._fetch_rewards_via_func(*asked))
        (by_server,) = asyncio.run(agent.SingleTurnAgentExecutor(url)._fetch_rewards_via_http(*asked))
    assert by_file == by_server
    assert expected is not None
    assert by_file == {"rewards": [expected.value], "scores": [expected.value], "extra_logs": dict(expected.logs)}


@pytest.mark.soak
def test_verls_loader_finds_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a coroutine that verl takes for a function, and settings that do not reach it."""
    (expected,) = Rewards(made_up_judge()).score(["Why?"], ["Because."])
    settings = {"path": "pkg://preftree.integrations.verl", "name": "compute_score"}
    with (
        hollow(monkeypatch, "verl", "verl.utils", "verl.trainer", "verl.trainer.ppo"),
        fakes.serving(made_up_judge()) as client,
    ):
        monkeypatch.setattr(sys.modules["verl"], "DataProto", object, raising=False)
        reward: Any = import_module("verl.trainer.ppo.reward")
        url = f"http://{client.address[0]}:{client.address[1]}"
        config = SimpleNamespace(
            reward={"custom_reward_function": settings | {"reward_kwargs": {"url": url, "prompt_key": "question"}}}
        )
        function = reward.get_custom_reward_fn(config)
        assert asyncio.iscoroutinefunction(function)
        call = function(
            data_source="set", solution_str="Because.", ground_truth="", extra_info={"question": "Why?", "num_turns": 1}
        )
        found = asyncio.run(call)
    assert expected is not None
    assert found == {"score": expected.value, **expected.logs}


def made_up_judge() -> Any:
    return fakes.FakeJudge()
