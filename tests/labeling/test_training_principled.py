"""Reward models that follow principles: they prefer what the principles given ask for, and the opposite of one negated.

The judge is a fake whose scores are known: a principle asks for a letter, and a response is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from preftree import Engine
from preftree.engine.errors import InputError
from preftree.labeling import cli
from preftree.labeling.judge.reward_model import open_model, reward_encoder
from preftree.labeling.principles.principle import Principle
from preftree.labeling.types import Message
from tests.engine.tokenizer_families import LLAMA_3, MAPPED_BYTES, sequence, split, trained
from tests.labeling.fakes import row
from tests.labeling.salmon_run import salmon_run
from tests.labeling.trainers import Asked, manifest, train
from tests.models import CONFIG, CONTROL, write_model

LETTERS = "xyz"
NAMES = ("concise", "ethical", "precise")  # those of salmon_run


def word_model(directory: Path) -> Path:
    """A base whose tokens are words: inputs of a hundred tokens instead of four hundred bytes."""
    data = trained(None, sequence(split(LLAMA_3), MAPPED_BYTES)) | {"decoder": MAPPED_BYTES}
    vocabulary = data["model"]["vocab"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    data["added_tokens"] = [
        {"id": vocabulary.setdefault(token, len(vocabulary)), "content": token, **flags} for token in CONTROL
    ]
    write_model(directory, CONFIG | {"vocab_size": len(vocabulary), "hidden_size": 64, "intermediate_size": 128})
    (directory / "tokenizer.json").write_text(json.dumps(data))
    return directory


def instructions(directory: Path, pairs: int, drawn: int) -> Path:
    """Preferences under one principle of `drawn` that may be drawn, half of them negated."""
    letters = LETTERS[: max(2, drawn)]
    principles = [
        Principle(name, f"Talk about {letter}.", f"Never talk about {letter}.", weight=float(place < drawn))
        for place, (name, letter) in enumerate(zip(NAMES, LETTERS, strict=True))
    ]
    rng = np.random.default_rng(0)
    rows, scores = [], []
    for number in range(pairs):
        a, b = rng.choice(list(letters), 2, replace=False)
        rows.append(row(id=str(number), prompt=f"{number}?", response_a=a * 3, response_b=b * 3))
        scores.append([float(letter == a) - float(letter == b) for letter in LETTERS])
    labels = salmon_run(directory, scores, principles, rows)
    out = directory / "instructions.jsonl"
    options = ["--num-principles", "1", "--passes", "1", "--noise", "0"]
    assert cli.main(["instructions", str(labels), "--out", str(out), *options]) == 0
    return out


def preferences(model: Path, letters: str) -> Iterator[tuple[str, bool, bool]]:
    """Of each two letters one that is asked for, and whether the reward follows a principle, and its opposite."""
    checkpoint = open_model(str(model))
    encoder = reward_encoder(checkpoint, manifest(model)["layout"])
    with Engine(checkpoint, device="cpu") as engine:
        for asked, other in permutations(letters, 2):
            prompt = (Message("user", f"{1000 + ord(other)}?"),)
            texts = [
                encoder.encode(prompt, letter * 3, (f"{verb} about {asked}.",))
                for verb in ("Talk", "Never talk")
                for letter in (asked, other)
            ]
            wanted, unwanted, shunned, free = engine.reward(texts)
            yield asked, bool(wanted > unwanted), bool(shunned < free)


@pytest.mark.parametrize("layout", ["instruction-first", pytest.param("response-first", marks=pytest.mark.soak)])
def test_a_model_follows_a_principle(tmp_path: Path, layout: str) -> None:
    """Catches principles that are not shown, or shown after what is rewarded, and statements that are not negated."""
    data, base = instructions(tmp_path / "data", 600, 1), word_model(tmp_path / "base")
    epochs = "2" if layout == "instruction-first" else "3"  # the response comes before what it answers: learnt later
    options = ("--full", "--lr", "0.005", "--batch-size", "8", "--epochs", epochs, "--set", "eval_steps=0.5")
    given = ("--principled", "--layout", layout, *options)
    (done,) = train(Asked(["train", data, "--model", base, "--out", tmp_path / "rm", *given]))
    assert done.code == 0, done.said
    about = manifest(tmp_path / "rm")
    assert about["layout"] == layout
    assert about["held_out"]["agreement"]["judge"]["share"] >= 0.9
    follows = [found[1:] for found in preferences(tmp_path / "rm", "xy") if found[0] == "x"]
    assert follows == [(True, True)]


@pytest.mark.soak
def test_a_model_follows_the_principle_given(tmp_path: Path) -> None:
    """Catches a model that learns which responses are good instead of which principle is given."""
    data, base = instructions(tmp_path / "data", 3000, 3), word_model(tmp_path / "base")
    options = ("--full", "--lr", "0.002", "--batch-size", "8", "--epochs", "4")
    (done,) = train(Asked(["train", data, "--principled", "--model", base, "--out", tmp_path / "rm", *options]))
    assert done.code == 0, done.said
    assert manifest(tmp_path / "rm")["held_out"]["agreement"]["judge"]["share"] >= 0.9
    follows = [one for found in preferences(tmp_path / "rm", LETTERS) for one in found[1:]]
    assert np.mean(follows) >= 0.9


def test_principles_are_asked_for(tmp_path: Path) -> None:
    """Catches a principled model that is scored without principles."""
    encoder = reward_encoder(open_model(str(write_model(tmp_path))), "instruction-first")
    with pytest.raises(InputError, match="follows principles"):
        encoder.encode((Message("user", "Which?"),), "that")
