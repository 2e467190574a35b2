"""Reward models: what soft labels teach, a directory that others open, and training that is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preftree import Engine
from preftree.engine.errors import ModelError
from preftree.labeling.judge.reward_model import open_model, reward_encoder
from preftree.labeling.training.artefact import verified_rewards
from preftree.labeling.training.rows import Rows
from preftree.labeling.types import Message
from tests.labeling.trainers import FAST, QUALITY, Asked, Done, known_run, manifest, train
from tests.models import CONFIG, write_model
from tests.processes import run_python

EPOCHS = ("--epochs", "3", "--set", "save_steps=0.5")
LORA = ("--batch-size", "16", "--lora-rank", "4", "--epochs", "0.2", "--device", "cpu", "--set", "eval_steps=0.5")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and a run; the models trained on it lie beside them."""
    directory = tmp_path_factory.mktemp("training")
    write_model(directory / "base", CONFIG)
    known_run(directory / "run", 400)
    return directory


@pytest.fixture(scope="module")
def done(place: Path) -> dict[str, Done]:
    """Everything that is trained here."""

    def asked(out: str, *options: str, fails: str = "", at: int = 0) -> Asked:
        return Asked(["train", place / "run", "--model", place / "base", "--out", place / out, *options], fails, at)

    commands = {
        "soft": asked("soft", *FAST, *EPOCHS),
        "hard": asked("hard", *FAST, *EPOCHS, "--labels", "hard"),
        "margin": asked("margin", *FAST, *EPOCHS, fails="margin"),
        "interrupted": asked("resumed", *FAST, *EPOCHS, fails="interrupt", at=50),
        "another": asked("resumed", *FAST, *EPOCHS, "--seed", "1"),
        "resumed": asked("resumed", *FAST, *EPOCHS),
        "lora": asked("lora", *LORA),
        "exists": asked("lora", *LORA),
        "nan": asked("nan", "--full", "--lr", "1e30", "--device", "cpu", "--set", "save_steps=1"),
        "memory": asked("memory", *LORA, fails="memory"),
        "config": asked("config", *LORA, "--set", "lr_scheduler_type=square"),
        "field": asked("config", *LORA, "--set", "warmup_step=3"),
        "ours": asked("config", *LORA, "--set", "learning_rate=1"),
    }
    return dict(zip(commands, train(*commands.values()), strict=True))


def test_soft_labels_are_learnt(place: Path, done: dict[str, Done]) -> None:
    """Catches a lost p, its complement, and a p of the other response: then rewards say nothing but which is better."""
    assert done["soft"].code == 0, done["soft"].said
    soft, hard, margin = (manifest(place / name)["held_out"] for name in ("soft", "hard", "margin"))
    assert soft["distance"] < 0.05
    assert soft["cross_entropy"] - soft["floor"] < 0.01
    for figures in (hard, margin):
        assert figures["distance"] > 3 * 0.05
        assert figures["cross_entropy"] - figures["floor"] > 0.1
    for figures in (soft, hard, margin):
        assert figures["agreement"]["judge"]["share"] > 0.95
        assert figures["agreement"]["gold"] == figures["agreement"]["judge"]


def test_rewards_are_qualities(place: Path, done: dict[str, Done]) -> None:
    """Catches rewards of other texts than those trained on: another template, or the end of the turn left out."""
    checkpoint = open_model(str(place / "soft"))
    encoder = reward_encoder(checkpoint)
    texts = [encoder.encode((Message("user", "1000?"),), letter * 4) for letter in QUALITY]
    with Engine(checkpoint, device="cpu") as engine:
        rewards = engine.reward(texts)
    found, expected = (one - np.mean(one) for one in (rewards, list(QUALITY.values())))
    assert abs(found - expected).max() < 0.1


@pytest.mark.parametrize("name", ["soft", "lora"])
def test_the_directory_is_one_of_transformers(place: Path, done: dict[str, Done], name: str) -> None:
    """Catches a head that is not saved, an adapter that is not merged, a pad token that ends a text."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    assert done[name].code == 0, done[name].said
    directory = str(place / name)
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForSequenceClassification.from_pretrained(directory)
    config = model.config
    assert (config.num_labels, config.pad_token_id) == (1, tokenizer.pad_token_id)
    assert config.pad_token_id not in (config.eos_token_id, None)
    assert (tuple(model.score.weight.shape), model.score.bias) == ((1, 32), None)
    turns = [[{"role": "user", "content": "7?"}, {"role": "assistant", "content": text}] for text in ("b", "e" * 30)]
    padded = tokenizer.apply_chat_template(turns, padding=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        theirs = model(**padded).logits[:, 0].numpy()
    checkpoint = open_model(directory)
    encoder = reward_encoder(checkpoint)
    with Engine(checkpoint, device="cpu") as engine:
        ours = engine.reward([encoder.encode((Message("user", "7?"),), turn[1]["content"]) for turn in turns])
    assert abs(ours - theirs).max() < 1e-4
    assert encoder.template_sha256 == manifest(place / name)["template_sha256"]


def test_what_lies_in_the_directory(place: Path, done: dict[str, Done]) -> None:
    """Catches checkpoints that are left, an adapter that is lost, and a card without figures or origin."""
    names = {path.name for path in (place / "lora").iterdir()}
    model = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names == {*model, "preftree.json", "README.md", "adapter"}
    assert (place / "lora" / "adapter" / "adapter_model.safetensors").exists()
    about, card = manifest(place / "lora"), (place / "lora" / "README.md").read_text()
    assert about["state"] == "complete"
    for part in (about["template_sha256"], about["job"]["base"]["sha256"], about["job"]["data"]["labels_sha256"]):
        assert part in card
    for part in ("base", "soft labels", "agreement with gold", "95% interval", "use_activation", "<|pad|>"):
        assert part in card
    assert about["rewards"].keys() == {"mean", "std"}


def test_progress(done: dict[str, Done]) -> None:
    """Catches training that says nothing of how it goes, and other programs' lines between ours."""
    lines = done["soft"].said.splitlines()
    assert lines[0] == "pad token <|pad|> is added: the base has none"
    looks = [line for line in lines if line.startswith("step ")]
    assert len(looks) == 2
    assert all("held-out loss 0." in line and "accuracy" in line for line in looks)
    named = [line for line in lines[1 + len(looks) :] if not line.startswith(" ")]  # the others go on in the next line
    assert [line.split("  ")[0] for line in named] == [
        *("trained", "agreement with the judge", "agreement with gold"),
        *("cross-entropy", "mean distance from p", "rewards", "reward model"),
    ]


def test_resumed_training_ends_alike(place: Path, done: dict[str, Done]) -> None:
    """Catches an optimiser, an order of rows or a schedule that begins again."""
    assert done["interrupted"].code == 130
    checkpoint = place / "resumed" / "checkpoints" / "checkpoint-33"
    assert done["interrupted"].said.endswith(f"interrupted; the same command resumes from {checkpoint}\n")
    assert done["another"].said.startswith(f"preftree: {place}/resumed holds unfinished training of another job: ")
    assert "options.seed was 0 and is 1 now" in done["another"].said
    assert "resumes from step 33" in done["resumed"].said
    whole, resumed = ((place / name / "model.safetensors").read_bytes() for name in ("soft", "resumed"))
    assert whole == resumed


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("exists", ("holds a reward model already", "--overwrite")),
        ("nan", ("is not finite at step", "checkpoint-1 is the last checkpoint", "--lr")),
        ("memory", ("out of memory", "--batch-size")),
        ("config", ("--set", "square")),
        ("field", ("--set", "did you mean warmup_steps?")),
        ("ours", ("--set learning_rate: use --lr",)),
    ],
)
def test_what_ends_training_is_one_line(done: dict[str, Done], name: str, parts: tuple[str, ...]) -> None:
    """Catches a traceback, and a message without way out."""
    assert done[name].code in (1, 2)
    last = done[name].said.splitlines()[-1]
    assert last.startswith("preftree: ")
    assert all(part in last for part in parts), last
    assert "Traceback" not in done[name].said


def test_nothing_is_left_of_a_bad_field(place: Path, done: dict[str, Done]) -> None:
    """Catches a directory that the command without its mistake would refuse."""
    assert done["config"].code == 2
    assert not (place / "config").exists()


def test_a_model_that_was_not_saved_as_trained(place: Path, done: dict[str, Done]) -> None:
    """Catches a random head that passes for a trained one."""
    from transformers import AutoModelForSequenceClassification

    directory = place / "soft"
    model: Any = AutoModelForSequenceClassification.from_pretrained(str(directory))
    encoder = reward_encoder(open_model(str(directory)))
    ids = [np.array(encoder.encode((Message("user", "7?"),), text), np.int32) for text in ("aaaa", "f")]
    rows = Rows([ids[0]], [ids[1]], [0.7], [None])
    assert len(verified_rewards(directory, model, rows, "cpu")) == 2
    with torch.no_grad():
        model.score.weight *= 1.01
    with pytest.raises(ModelError, match="the trained model has other rewards than preftree reads from it"):
        verified_rewards(directory, model, rows, "cpu")


def test_without_the_trainers(place: Path) -> None:
    """Catches a traceback, or minutes of work, before a package is missed."""
    command = ["-m", "preftree", "train", place / "run", "--model", place / "base", "--out", place / "none"]
    done = run_python(*command)
    assert done.returncode == 1
    assert done.stderr == "preftree: training needs trl, peft, accelerate: pip install 'preftree[train]'\n"
    assert not (place / "none").exists()
