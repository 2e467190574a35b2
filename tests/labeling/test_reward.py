"""Method reward: what a reward model says of responses, pairs and lists, under principles or without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import preftree as pt
from preftree.engine.errors import PreftreeError
from preftree.labeling import cli
from preftree.labeling.commands.table import FAILURE, OK, USAGE
from preftree.labeling.judge.reward_model import RewardModel
from preftree.labeling.methods.probability import probability
from preftree.labeling.prompts.reward_input import reward_messages
from preftree.labeling.types import Message
from tests.labeling.commands import one_error
from tests.labeling.fakes import write_rows
from tests.labeling.reward_models import template_sha256, write_reward_model

PROMPT = "Which way is north?"
ROWS: list[dict[str, Any]] = [
    {"id": "one", "prompt": PROMPT, "response": "Up there."},
    {"id": "pair", "prompt": PROMPT, "response_a": "Up there.", "response_b": "</s>Where the moss is.", "gold": "b"},
    {"id": "same", "prompt": PROMPT, "response_a": "Up there.", "response_b": "Up there."},
    {"id": "list", "prompt": PROMPT, "responses": ["The other way.", "Up there.", "Where the moss is."]},
]


def preftree(*arguments: str | Path) -> int:
    return cli.main([*map(str, arguments)])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reward_model(tmp_path_factory.mktemp("rewards") / "plain")


@pytest.fixture(scope="module")
def principled(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that says what is normal, and follows principles."""
    directory = tmp_path_factory.mktemp("rewards") / "principled"
    with RewardModel.load(str(plain)) as model:
        about = {"layout": "instruction-first", "rewards": {"mean": 0.5, "std": 2.0}}
        write_reward_model(directory, **about, template_sha256="?")
        assert model.describe()["layout"] == "conversation"
    manifest = json.loads((directory / "preftree.json").read_text())
    with pytest.raises(PreftreeError, match="was trained with another chat template"):
        RewardModel.load(str(directory))
    manifest["template_sha256"] = template_sha256(directory)
    (directory / "preftree.json").write_text(json.dumps(manifest))
    return directory


def with_transformers(directory: Path, messages: Sequence[Message]) -> float:
    """The reward of a conversation without control tokens in its texts, by the model's own class."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    model = AutoModelForSequenceClassification.from_pretrained(str(directory), dtype="float32")
    turns = [{"role": role, "content": content} for role, content in messages]
    ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=False)
    with torch.inference_mode():
        return float(model(input_ids=ids).logits)


def labelled(rows: Path, out: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    found: list[dict[str, Any]] = pq.read_table(out / "labels.parquet").to_pylist()
    return found


def test_rows_of_every_kind(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches rewards of another response, another text than transformers reads, and probabilities of other rewards."""
    rows, out = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "run"
    assert preftree("reward", rows, "--model", plain, "--out", out, "--dtype", "float32") == OK
    summary = " ".join(capsys.readouterr().out.split())
    assert "of 8 responses" in summary
    assert "agreement" in summary
    one, pair, same, several = labelled(rows, out)
    expected = with_transformers(plain, (Message("user", PROMPT), Message("assistant", "Up there.")))
    assert one["reward"] == pytest.approx(expected, abs=1e-4)
    assert one["reward"] == pair["reward_a"] == same["reward_b"] == several["rewards"][1]
    assert pair["p_a"] == probability(pair["reward_a"] - pair["reward_b"])
    assert pair["verdict"] == ("a" if pair["reward_a"] > pair["reward_b"] else "b")
    assert (same["p_a"], same["verdict"]) == (0.5, "tie")
    assert several["ranking"] == sorted(range(3), key=lambda index: -several["rewards"][index])
    assert one["normalized_reward"] is None
    assert pair["reward"] is None
    assert one["p_a"] is None
    swapped = [{"id": "pair", "prompt": PROMPT, "response_a": ROWS[1]["response_b"], "response_b": "Up there."}]
    model = RewardModel.load(str(plain), dtype="float32")
    label: Any = pt.label(swapped, model, "reward")[0].label
    assert label.p_a == 1.0 - pair["p_a"]


def test_text_stays_text(plain: Path) -> None:
    """Catches a response that ends its own turn."""
    model = RewardModel.load(str(plain), dtype="float32")
    labels = pt.label([{"prompt": PROMPT, "response": text} for text in ("Up</s>", "Up")], model, "reward")
    rewards = [row.label.values()["reward"] for row in labels if row.label]
    assert rewards[0] != rewards[1]


def test_under_principles(principled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches sets that are mixed up, a normal reward of another mean, and a response run once for each set."""
    rows, out = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "run"
    asked = ("--under", "concise", "--under", "not concise", "--guard", "--dtype", "float32")
    assert preftree("reward", rows, "--model", principled, "--out", out, *asked) == OK
    run = json.loads((out / "run.json").read_text())
    assert [len(one["statements"]) for one in run["method"]["sets"]] == [4, 4]
    under = labelled(rows, out)[0]["sets"]
    statements = [tuple(one["statements"]) for one in run["method"]["sets"]]
    for entry, shown in zip(under, statements, strict=True):
        messages = reward_messages((Message("user", PROMPT),), "Up there.", "instruction-first", shown)
        assert entry["reward"] == pytest.approx(with_transformers(principled, messages), abs=1e-4)
        assert entry["normalized_reward"] == (entry["reward"] - 0.5) / 2.0
    assert under[0]["reward"] != under[1]["reward"]
    assert preftree("show", out, "pair") == OK
    shown_text = capsys.readouterr().out
    assert shown_text.count("answer, response B, ") == 2
    assert preftree("report", out) == OK
    assert "mean reward" in capsys.readouterr().out


def test_figures(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches figures of other responses than those of the run, and a page that shows rewards on a judge's scale."""
    rows, out = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "run"
    assert preftree("reward", rows, "--model", plain, "--out", out, "--quiet") == OK
    assert preftree("report", out, "--json") == OK
    figures = json.loads(capsys.readouterr().out)
    one, pair, same, several = labelled(rows, out)
    rewards = [one["reward"], pair["reward_a"], pair["reward_b"], same["reward_a"], same["reward_b"]]
    rewards += several["rewards"]
    texts = [ROWS[0]["response"], *(ROWS[place][f"response_{side}"] for place in (1, 2) for side in "ab")]
    chars = [len(text) for text in [*texts, *ROWS[3]["responses"]]]
    assert figures["responses"] == 8
    assert figures["mean_reward"] == pytest.approx(np.mean(rewards))
    assert figures["std_reward"] == pytest.approx(np.std(rewards))
    assert figures["length_correlation"] == pytest.approx(np.corrcoef(rewards, chars)[0, 1])
    assert (figures["pairs"], figures["ties"]) == (2, 1)
    page = tmp_path / "page.html"
    assert preftree("report", out, "--html", page) == OK
    assert "correlation of reward and characters" in page.read_text()
    assert "preferred end of the scale" not in page.read_text()


def test_what_is_shared(principled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a prompt run for each of its responses, and a response run for each set: at most a third is unique."""
    text = "the way there " * 25
    many = [{"prompt": text * 4, "responses": [f"{number} {text[:200]}" for number in range(64)]}]
    rows = write_rows(tmp_path / "many.jsonl", many)
    sets = [part for number in range(16) for part in ("--under", f"the number {number}")]
    for path, options in ((rows, ["--under", "concise"]), (write_rows(tmp_path / "one.jsonl", [_one(text)]), sets)):
        assert preftree("plan", path, "--method", "reward", "--model", principled, *options) == OK
        lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines() if "  " in line)
        tokens, unique = (int(lines[name].replace(",", "")) for name in ("prompt tokens", "unique tokens"))
        assert unique <= tokens / 3


def _one(text: str) -> dict[str, Any]:
    return {"prompt": text * 4, "response": text}


def test_resumed_without_weights(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a reward run that is not recognised as its own, or that reads the weights when it is complete."""
    rows, out = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "run"
    assert preftree("reward", rows, "--model", plain, "--out", out, "--quiet") == OK
    labels = (out / "labels.parquet").read_bytes()
    monkeypatch.setattr("preftree.engine.engine.Engine.__init__", None)
    assert preftree("reward", rows, "--model", plain, "--out", out, "--quiet") == OK
    assert (out / "labels.parquet").read_bytes() == labels


def test_as_training_data(plain: Path, tmp_path: Path) -> None:
    """Catches rewards that exports do not take for labels."""
    rows, out = write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "run"
    assert preftree("reward", rows, "--model", plain, "--out", out, "--quiet") == OK
    assert preftree("export", out, "--to", "soft", "--out", tmp_path / "soft.jsonl") == OK
    pair, several = map(json.loads, (tmp_path / "soft.jsonl").read_text().splitlines())
    _, labels, _, ranked = labelled(rows, out)
    assert pair["p_a"] == labels["p_a"]
    assert (several["response_a"], several["response_b"]) == tuple(
        ROWS[3]["responses"][ranked["ranking"][place]] for place in (0, -1)
    )
    assert several["p_a"] == probability(max(ranked["rewards"]) - min(ranked["rewards"]))
    every = ("export", out, "--to", "soft", "--pairs", "all", "--out", tmp_path / "all.jsonl")
    assert preftree(*every) == OK
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("embedded", (), "model embedded is a language model, which gives no rewards"),
        ("plain", ("--guard",), "follows no principles; leave --under, --principles and --guard out"),
        ("principled", (), "follows principles; name some with --under, --principles or --guard"),
    ],
)
def test_models_that_do_not_suit(
    model: str, options: tuple[str, ...], message: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: Any
) -> None:
    """Catches a model that is asked for what it does not have."""
    name = model if model == "embedded" else request.getfixturevalue(model)
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    capsys.readouterr()  # what was printed while the model was made
    assert preftree("reward", rows, "--model", name, "--out", tmp_path / "run", "--quiet", *options) == FAILURE
    assert message in one_error(capsys)
    assert not (tmp_path / "run").exists()


def test_a_judge_is_no_reward_model(plain: Path, tmp_path: Path, capsys: Any) -> None:
    """Catches a reward model that is asked for labels."""
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    assert preftree("label", rows, "--model", plain, "--out", tmp_path / "run", "--quiet") == FAILURE
    assert "is a reward model, which answers nothing; use `preftree reward`" in one_error(capsys)


def test_training_that_is_not_complete(plain: Path, tmp_path: Path) -> None:
    """Catches a model that is used before its head is trained."""
    directory = write_reward_model(tmp_path / "model", state="training")
    with pytest.raises(PreftreeError, match="is not trained yet; finish `preftree train`"):
        RewardModel.load(str(directory))
    (directory / "preftree.json").write_text('{"kind": "reward model", "state": "complete", "layout": "x"}')
    with pytest.raises(PreftreeError, match="is broken"):
        RewardModel.load(str(directory))


def test_options_of_a_judge_are_refused(plain: Path, tmp_path: Path, capsys: Any) -> None:
    """Catches options that have no effect."""
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    for flag in ("--cot", "--template", "--scale", "--plain"):
        assert preftree("reward", rows, "--model", plain, "--out", tmp_path / "run", flag) == USAGE
        assert "there is no option" in one_error(capsys)


def test_alone_and_among_others(plain: Path) -> None:
    """Catches rewards that depend on what else is in the run."""
    model = RewardModel.load(str(plain))
    prompts = [{"prompt": PROMPT, "response": f"{number} {'the ' * number}"} for number in range(30)]
    together = [row.label.values()["reward"] for row in pt.label(prompts, model, "reward") if row.label]
    alone = [row.label.values()["reward"] for one in prompts for row in pt.label([one], model, "reward") if row.label]
    assert np.array_equal(together, alone)
