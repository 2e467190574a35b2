"""`preftree` as a model of lm-evaluation-harness, beside the harness' own `hf`, offline and in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hugging_face import embedded_directory
from tests.models import CONFIG, tokenizer_data, write_model
from tests.processes import HARNESS, ROOT, TRAINERS, answered, require

QUESTIONS = [
    {"text": "What do bees make?", "choices": ["honey", "steel", "paper money", "salt water"], "answer": 0},
    {"text": "Which planet is the largest?", "choices": ["Mars", "Jupiter", "the Moon"], "answer": 1},
    # Longer than what the small model is given: its beginning is cut.
    {"text": "Count the legs. " * 40 + "How many has a spider?", "choices": ["two", "eight"], "answer": 1},
]
# Many windows of the small model's.
TEXTS = [{"text": "Bees make honey. " * 80}, {"text": "x"}]
TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
CHOICE = """output_type: multiple_choice
doc_to_text: "Question: {{text}}\\nAnswer:"
doc_to_target: answer
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ROLLING = """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: byte_perplexity}]
"""
GENERATE = """output_type: generate_until
doc_to_text: "Question: {{text}}\\nAnswer: "
doc_to_target: ""
metric_list: [{metric: bypass}]
generation_kwargs: {max_gen_toks: 16, do_sample: false, until: [%s]}
"""


def write_tasks(folder: Path, stops: str) -> Path:
    folder.mkdir()
    kinds = {"choice": CHOICE, "rolling": ROLLING, "free": GENERATE % "", "stopped": GENERATE % stops}
    for name, kind in kinds.items():
        data = folder / f"{name}.json"
        data.write_text(json.dumps(TEXTS if name == "rolling" else QUESTIONS))
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data) + kind)
    return folder


def compared(tasks: Path, model: Path, max_length: int, *more: str) -> dict[str, Any]:
    require(HARNESS)
    command = ("-m", "tests.labeling.harness_answers", tasks, model, max_length, *more)
    home = {"HF_HOME": str(tasks / "cache")}
    found: dict[str, Any] = answered(*command, imports=(ROOT, HARNESS, TRAINERS), own=home)
    return found


def assert_same(theirs: dict[str, Any], ours: dict[str, Any], rolling: float = 1e-6) -> None:
    """Log-probabilities of continuations within 1e-3, everything else equal.

    rolling: relative tolerance of the sums over whole texts, hundreds of float32 log-probabilities.
    """
    assert theirs.keys() == ours.keys() == {"choice", "rolling", "free", "stopped"}
    for name, task in theirs.items():
        assert ours[name]["prompts"] == task["prompts"], name
        for one, other in zip(task["answers"], ours[name]["answers"], strict=True):
            if name == "choice":
                assert [float(logprob) for logprob, _ in other] == pytest.approx([lp for lp, _ in one], abs=1e-3)
                assert [is_greedy for _, is_greedy in other] == [is_greedy for _, is_greedy in one]
            else:
                assert other == (pytest.approx(one, abs=1e-3, rel=rolling) if name == "rolling" else one), name
        assert ours[name]["results"] == pytest.approx(task["results"], rel=max(1e-5, rolling)), name
    assert theirs["stopped"]["answers"] != theirs["free"]["answers"], "no text was stopped"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a small model whose tokenizer adds a BOS. Takes as long as it takes to import harness and transformers."""
    home = tmp_path_factory.mktemp("harness")
    model = write_model(home / "model", CONFIG)
    bos, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    adds_bos = {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, text],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    (model / "tokenizer.json").write_text(json.dumps(tokenizer_data(post_processor=adds_bos)))
    return compared(write_tasks(home / "tasks", '"e", "a"'), model, 64, "calls")


@pytest.mark.parametrize("chat", ["False", "True"])
def test_answers_are_those_of_the_harness_own_model(small: dict[str, Any], chat: str) -> None:
    """Catches a BOS or a chat template that is applied otherwise, contexts cut elsewhere, windows that overlap, a
    continuation that loses a token, and texts that end elsewhere."""
    assert_same(small["hf"][chat], small["preftree"][chat])


def test_a_context_that_comes_again_gets_another_sample(small: dict[str, Any]) -> None:
    """Catches repeats of a task that are all the same text, and greedy requests that are sampled."""
    first, second, greedy, third = small["samples"]
    assert len({first, second, third, greedy}) == 4


def test_a_text_that_stops_inside_a_token_keeps_what_is_before(small: dict[str, Any]) -> None:
    """Catches a text without the beginning of the token that holds the stop string."""
    assert small["stopped"] == ["one tw"]


def test_wrong_calls_end_in_one_line(small: dict[str, Any]) -> None:
    """Catches an argument that is ignored, and a traceback where the harness is run by preftree."""
    assert small["refused"] == {
        "option": "there is no option 'dtpye' for model preftree; did you mean dtype?",
        "type": "--dtype cannot be 'float7'; did you mean float32?",
        "length": "max_length is 100000; it must be a whole number from 1 to 512",
        "argument": "model preftree has no generation argument num_beams; it takes until, max_gen_toks, do_sample, "
        "temperature, top_k and top_p",
        "room": "no room for 5,000 new tokens: max_length is 512",
        "nothing": "continuation '' has 0 tokens; it must have from 1 to 512",
    }
    code, said = small["command"]
    assert code == 1
    assert said.startswith("preftree: /not/there: no such file or directory")


@pytest.mark.soak
def test_answers_of_a_real_model_are_those_of_the_harness_own(tmp_path: Path) -> None:
    """The same with real text: stop strings inside tokens, no BOS, and greedy choices that are close."""
    found = compared(write_tasks(tmp_path / "tasks", '"ee", ".", "\\n"'), embedded_directory(), 2048)
    for chat in ("False", "True"):
        assert_same(found["hf"][chat], found["preftree"][chat], rolling=5e-5)
