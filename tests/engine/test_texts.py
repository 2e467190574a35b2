"""Prompts and labels as texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from preftree import Engine, InputError


def test_texts_are_their_token_ids(embedded_engine: Engine) -> None:
    """Prompts with the tokenizer's BOS where it adds one, labels as they continue their prompt; ids as they are."""
    tokenizer = embedded_engine.checkpoint.tokenizer
    texts = ["The better answer is ", "Which one? It is"]
    ids = [tokenizer.encode(tokenizer.plain(text)) for text in texts]
    labels = [
        [tokenizer.encode([*tokenizer.plain(text), label])[len(one) :] for label in ("1", "2")]
        for text, one in zip(texts, ids, strict=True)
    ]
    expected = embedded_engine.score(ids, labels)
    mixed: list[str | Sequence[int]] = [texts[0], ids[1]]
    for prompts in (texts, mixed):
        found = embedded_engine.score(prompts, ["1", "2"])
        assert np.array_equal(found.logprob, expected.logprob)
    own = embedded_engine.score(texts, [["1", labels[0][1]], labels[1]])
    assert np.array_equal(own.logprob, expected.logprob)


def test_text_is_never_a_control_token(embedded_engine: Engine) -> None:
    control = embedded_engine.checkpoint.tokenizer.control
    name, index = next((name, index) for name, index in control.items() if len(name) > 2)
    score = embedded_engine.score([f"x{name}y"], [["1"]])
    tokenizer = embedded_engine.checkpoint.tokenizer
    assert score.prompt_tokens == len(tokenizer.encode(tokenizer.plain(f"x{name}y"))) > 3
    assert index not in tokenizer.encode(tokenizer.plain(f"x{name}y"))


@pytest.mark.parametrize(
    ("prompts", "labels", "message"),
    [
        ([], ["1"], "no prompts to score"),
        (["a"], [], "1 prompts but labels for 0"),
        (["a", "b"], [["1"]], "2 prompts but labels for 1"),
        (["a"], [["1"], ["2"]], "1 prompts but labels for 2"),
        (["hello wor"], ["ld"], "label 'ld' merges with the end of prompt 0 .*; move the space"),
        (["a"], [[""]], "label '' merges"),
        (["a\ud800"], ["1"], "lone surrogate"),
    ],
)
def test_what_cannot_be_asked(
    embedded_engine: Engine, prompts: list[str], labels: list[str] | list[list[str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        embedded_engine.score(prompts, labels)
