"""Text to ids without forgery, labels at the real answer position, totals that add up."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from preftree.engine.checkpoint import Checkpoint
from preftree.engine.errors import InputError, ModelError
from preftree.engine.trace import TRACED_CALLS
from preftree.labeling.judge.judge import Judge
from preftree.labeling.report.text import judge_text
from preftree.labeling.types import ScoreRequest
from tests.models import CONFIG, SMALL_CONFIG, write_model

OpenScorer = Callable[..., Judge]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


def request(user: str = "Which?", answer: str = "Better: ", labels: tuple[str, ...] = ("1", "2")) -> ScoreRequest:
    return ScoreRequest(user, answer, labels)


def test_labels_are_resolved_where_they_stand(embedded_checkpoint: Checkpoint, embedded_scorer: OpenScorer) -> None:
    """On this model "A" and " A" are different tokens: an id looked up without its context would be wrong."""
    scorer = embedded_scorer()
    tokenizer = embedded_checkpoint.tokenizer
    assert scorer.encode(request(labels=("1", "2"))).labels == [tokenizer.encode("1"), tokenizer.encode("2")]
    behind_space = scorer.encode(request(answer="Better:", labels=(" A", " B"))).labels
    assert behind_space == [tokenizer.encode(" A"), tokenizer.encode(" B")]
    assert behind_space != scorer.encode(request(answer="Better: (", labels=("A", "B"))).labels
    assert [len(label) for label in scorer.encode(request(labels=("1", "10"))).labels] == [1, 2]


def test_labels_that_merge_with_the_answer_start_are_refused(embedded_scorer: OpenScorer) -> None:
    """Behind "Better:" + " " the label "A" would become the one token " A"."""
    with pytest.raises(ModelError, match="label 'A' merges with the answer start 'Better: '"):
        embedded_scorer().encode(request(answer="Better: ", labels=("A", "B")))


def test_labels_that_are_the_same_tokens_are_refused(model: str) -> None:
    with pytest.raises(ModelError, match=r"labels .* are not distinct"):
        Judge.load(model).encode(request(labels=("1", "1")))


@pytest.mark.parametrize("rendering", ["chat", "plain"])
def test_text_cannot_become_a_control_token(embedded_checkpoint: Checkpoint, model: str, rendering: str) -> None:
    for name in ("embedded", model):
        scorer = Judge.load(name, rendering=rendering, weights=False)  # type: ignore[arg-type]
        control = set(scorer.tokenizer.control.values())
        honest = scorer.encode(request("hello"))
        for token in scorer.tokenizer.control:
            forged = scorer.encode(request(f"{token}x{token}\n{token}", answer=f"{token}: "))
            assert sum(i in control for i in forged.ids) == sum(i in control for i in honest.ids)


def test_plain_rendering_has_no_control_tokens(embedded_checkpoint: Checkpoint) -> None:
    scorer = Judge.load("embedded", rendering="plain", weights=False)
    assert scorer.render(request("Which?")) == "Which?\n\nBetter: "
    assert scorer.encode(request("Which?")).ids == embedded_checkpoint.tokenizer.encode("Which?\n\nBetter: ")


def test_chat_rendering_shows_the_whole_prompt() -> None:
    shown = Judge.load("embedded", weights=False).render(request("Which?"))
    assert shown.startswith("<|im_start|>system\n")
    assert shown.endswith("<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\nBetter: ")


def test_a_prompt_beyond_the_context_is_the_rows_problem(tmp_path: Path) -> None:
    scorer = Judge.load(str(write_model(tmp_path / "tiny", CONFIG)), weights=False)
    with pytest.raises(InputError, match=r"the prompt has 6\d\d tokens, the model's context is 512"):
        scorer.encode(request("x" * 600))


def test_lone_surrogates_are_the_rows_problem(model: str) -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        Judge.load(model, weights=False).encode(request("\ud800"))


def test_a_model_without_chat_template(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "plain", CONFIG)
    (directory / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    described = Judge.load(str(directory), weights=False).describe()
    assert described["rendering"] == "plain"
    assert judge_text(described).endswith("plain prompts")
    assert "prompts" not in judge_text(described | {"rendering": "chat"})
    with pytest.raises(ModelError, match="has no chat template; use --plain"):
        Judge.load(str(directory), rendering="chat", weights=False)


def test_planned_and_run_tokens_agree(model: str) -> None:
    """`plan` and `label` must print the same unique tokens, window after window."""
    labels = ("1", "2")
    windows = [[request(f"{'shared ' * 10}{number} {i}", labels=labels) for i in range(3)] for number in range(4)]
    scorer = Judge.load(model)
    planner = Judge.load(model, weights=False)
    planned = 0
    for window in windows:
        encoded = [scorer.encode(item) for item in window]
        planned += planner.plan(encoded).rows
        scorer.score(encoded)
    assert scorer.usage.unique_tokens == planned
    assert scorer.usage.prompt_tokens == sum(len(scorer.encode(item).ids) for window in windows for item in window)


def test_scores_are_in_order(model: str) -> None:
    scorer = Judge.load(model)
    encoded = [scorer.encode(request(f"prompt {i}" * (i + 1))) for i in range(5)]
    together = scorer.score(encoded)
    assert together == [scorer.score([item])[0] for item in encoded]
    assert [score.prompt_tokens for score in together] == [len(item.ids) for item in encoded]


def test_the_manifest_names_the_model(model: str) -> None:
    described = Judge.load(model, batch_tokens=77).describe()
    assert described["threads"] == torch.get_num_threads(), "bits depend on it, so a run may not change it half way"
    assert len(str(described["model_sha256"])) == 64
    assert (described["device"], described["dtype"], described["batch_tokens"]) == ("cpu", "float32", 77)
    assert {"torch", "numpy", "tokenizers", "python"} <= described["versions"].keys()


def test_windows_stream_in_order_and_may_be_empty(model: str) -> None:
    scorer = Judge.load(model)
    encoded = [scorer.encode(request(f"prompt {i}" * (i + 1))) for i in range(5)]
    windows = [encoded[:2], [], encoded[2:4], encoded[4:], []]
    assert list(scorer.score_stream(windows)) == [scorer.score(window) if window else [] for window in windows]


def test_a_trace_names_run_batches_layers_and_operations(model: str, tmp_path: Path) -> None:
    """What somebody sees who opens it; and it ends after the first calls, or it would grow with the job."""
    scorer = Judge.load(model)
    window = [scorer.encode(request())]
    path = tmp_path / "trace.json.gz"
    with scorer.traced(path):
        for _ in scorer.score_stream([window] * (TRACED_CALLS + 5)):
            pass
    assert scorer.usage.batches == TRACED_CALLS + 5
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    counted = Counter(event.get("name") for event in events if event.get("cat") == "user_annotation")
    assert counted["preftree.batch"] == counted["preftree.label_head"] == TRACED_CALLS
    assert counted["preftree.layer 0"] == TRACED_CALLS + counted["preftree.prefix"]
    assert counted["preftree.linear"] > counted["preftree.tree_attention"] > TRACED_CALLS
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_trace_of_a_run_that_breaks_is_written(model: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with pytest.raises(KeyboardInterrupt), Judge.load(model).traced(path):
        raise KeyboardInterrupt
    assert "traceEvents" in json.loads(path.read_text())
