"""Reward functions as each trainer calls them, with a judge that is made up."""

from __future__ import annotations

import asyncio
import pickle
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import preftree as pt
from preftree.integrations import areal, openrlhf, slime, swift, trl, verl
from preftree.labeling.integrations.rewards import Rewards
from tests.labeling.serving import fakes

PROMPTS, COMPLETIONS = ["Why?", "Why?", "How?"], ["Because.", "No idea.", "Like this."]
UNDER: dict[str, Any] = {"method": "principled", "under": [["concise"], ["honest"]]}


def judge() -> Any:
    return fakes.FakeJudge()


def values(**options: Any) -> list[float]:
    return [one.value for one in Rewards(judge(), **options).score(PROMPTS, COMPLETIONS) if one]


class Logs:
    """What TRL's trainer keeps of a function."""

    def __init__(self) -> None:
        self.extra: dict[str, list[Any]] = {}
        self.metrics: dict[str, float] = {}

    def log_extra(self, name: str, column: list[Any]) -> None:
        self.extra[name] = column

    def log_metric(self, name: str, value: float) -> None:
        self.metrics[name] = value


def test_trl_gets_rewards_columns_and_metrics() -> None:
    """Catches None that becomes a number, columns of another length, and metrics that take None for 0."""
    function, logs = trl.RewardFunction(judge(), name="judge", **UNDER), Logs()
    found = function(
        prompts=[*PROMPTS, "How?"],
        completions=[*COMPLETIONS, " "],
        completion_ids=[[1]] * 4,
        trainer_state=None,
        answer=["a"] * 4,
        log_extra=logs.log_extra,
        log_metric=logs.log_metric,
    )
    assert function.__name__ == "judge"
    assert found == [*values(**UNDER), None]
    names = {"judge/label_mass", "judge/entropy", "judge/response_chars", "judge/reward/concise", "judge/reward/honest"}
    assert logs.extra.keys() == names
    assert all(len(column) == 4 and column[3] is None and None not in column[:3] for column in logs.extra.values())
    assert logs.metrics.keys() == names | {"judge/unscored"}
    assert logs.metrics["judge/unscored"] == 0.25
    assert logs.metrics["judge/label_mass"] == pytest.approx(0.9)


def test_trls_async_form_is_the_same() -> None:
    """Catches a coroutine that TRL does not recognise: it looks at __call__."""
    function: Any = trl.AsyncRewardFunction(judge())
    assert asyncio.iscoroutinefunction(type(function).__call__)
    assert function.__name__ == "preftree"
    assert asyncio.run(function(prompts=PROMPTS, completions=COMPLETIONS)) == values()


def test_openrlhf_finds_the_function_in_a_file(tmp_path: Path) -> None:
    """Catches a function that the file's loader does not find, and control strings that are scored."""
    (tmp_path / "reward.py").write_text(
        "from tests.labeling.test_trainer_functions import judge\n"
        "from preftree.integrations.openrlhf import reward_function\n"
        "reward_func = reward_function(judge(), strip=['<|user|>', '<|end|>'])\n"
    )
    spec = spec_from_file_location("reward_func", tmp_path / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.reward_func(["<|user|>Why?<|end|>Because.<|end|>"], ["<|user|>Why?<|end|>"], ["label"])
    assert found["rewards"] == found["scores"] == values()[:1]
    assert found["extra_logs"].keys() == {"label_mass", "entropy", "response_chars"}
    with pytest.raises(pt.InputError, match=r"query\[0\] does not begin with prompts\[0\]"):
        module.reward_func(["Because."], ["Why?"], [None])


def test_verl_gets_a_score_and_figures() -> None:
    """Catches a prompt that is not taken from extra_info, and samples that a judge takes one by one."""
    with fakes.serving(judge()) as client:
        url = f"http://{client.address[0]}:{client.address[1]}"

        async def scores() -> list[dict[str, float]]:
            asked = zip(PROMPTS, COMPLETIONS, strict=True)
            return await asyncio.gather(
                *[verl.compute_score("set", text, "truth", {"prompt": prompt}, url=url) for prompt, text in asked]
            )

        found = asyncio.run(scores())
        assert [one["score"] for one in found] == values()
        assert found[0].keys() == {"score", "label_mass", "entropy", "response_chars"}
        with pytest.raises(pt.InputError, match="extra_info has no 'question'"):
            asyncio.run(verl.compute_score("set", "So.", "truth", {"prompt": "Why?"}, prompt_key="question", url=url))
        with pytest.raises(pt.InputError, match="blank text: response"):
            asyncio.run(verl.compute_score("set", "", "truth", {"prompt": "Why?"}, url=url))


def test_slime_gets_numbers_for_samples_and_for_groups() -> None:
    """Catches a list for one sample, and samples of a group that are not compared."""
    samples = [SimpleNamespace(prompt=prompt, response=text) for prompt, text in zip(PROMPTS, COMPLETIONS, strict=True)]
    with fakes.serving(judge()) as client:
        arguments = SimpleNamespace(rm_url=f"http://{client.address[0]}:{client.address[1]}/reward")
        assert asyncio.run(slime.reward(arguments, samples[0])) == values()[0]
        assert asyncio.run(slime.reward(arguments, samples)) == values()
    won = asyncio.run(slime.reward_function(judge(), compare=True)(None, samples[:2]))
    assert sum(won) == 1.0
    with pytest.raises(pt.InputError, match="a sample has no reward"):
        asyncio.run(slime.reward_function(judge())(None, SimpleNamespace(prompt="Why?", response=" ")))


def test_areal_takes_the_function_to_other_processes() -> None:
    """Catches a function that does not pickle, and a rendered prompt where there are messages."""
    function: Any = areal.RewardFunction(judge())
    assert function("Why?", "Because.", [1], [2], answer="x") == values()[0]
    messages = [{"role": "user", "content": "Why?"}]
    assert function("<|user|>Why?", "Because.", [1], [2], messages=messages) == values()[0]
    with fakes.serving(judge()) as client:
        url = f"http://{client.address[0]}:{client.address[1]}"
        there = pickle.loads(pickle.dumps(areal.RewardFunction(url=url)))
        assert there("Why?", "Because.", [1], [2]) == values()[0]


def test_swift_gets_a_class_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a conversation whose answer is taken for a part of the prompt."""
    with pytest.raises(pt.UsageError, match="ms-swift is not installed"):
        swift.register("preftree", judge())

    class ORM:
        def __init__(self, args: Any = None) -> None:
            self.args = args

    plugin: Any = SimpleNamespace(ORM=ORM, orms={})
    monkeypatch.setitem(sys.modules, "swift", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "swift.rewards", plugin)
    made = swift.register("preftree", judge())
    assert plugin.orms == {"preftree": made}
    assert issubclass(made, ORM)
    reward: Any = made("arguments")
    assert reward.args == "arguments"
    chats = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
        for prompt, text in zip(PROMPTS, COMPLETIONS, strict=True)
    ]
    assert reward(COMPLETIONS, messages=chats, solution=["x"] * 3) == values()
    assert reward([*COMPLETIONS[:2], " "], prompt=PROMPTS) == [*values()[:2], None]


@pytest.mark.parametrize("make", [openrlhf.reward_function, areal.RewardFunction])
def test_one_by_one_nothing_can_be_compared(make: Any) -> None:
    """Catches a reward of 0.5 for everything."""
    with pytest.raises(pt.UsageError, match="hands completions over one by one"):
        make(judge(), compare=True)
