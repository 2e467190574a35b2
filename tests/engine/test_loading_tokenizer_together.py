"""Texts that are tokenised together have the ids that each has alone, whatever threads do it."""

import random
from collections.abc import Iterator

import pytest

from preftree.engine.checkpoint import Checkpoint
from preftree.engine.errors import InputError
from preftree.engine.tokenizer import encoder
from preftree.engine.tokenizer.incremental import SharedText
from preftree.engine.tokenizer.tokenizer import MAX_CHARACTERS, Tokenizer
from tests.engine.tokenizer_families import FAMILIES, chains, corpus, load, metaspace, trained

Pieces = list[str | int]


def prompts(seed: int) -> Iterator[list[Pieces]]:
    """Groups of prompts, some of which share texts: of one or several, with a control token in front or without."""
    words = corpus()
    for chain in chains(seed, 12):
        long = [" ".join(random.Random(seed + place).choices(words, k=12)) + text for place, text in enumerate(chain)]
        group: list[Pieces] = []
        for text in [*chain, *long]:
            group += [[text], [0, text], [0, text, 1, text[::-1]]]
        yield group


@pytest.mark.parametrize("name", ["llama 3", "qwen", "llama 2", "metaspace first"])
@pytest.mark.parametrize("has_threads", ["false", "true"])
def test_ids_together_are_those_of_each_alone(name: str, has_threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches ids that get to another text, or that depend on the threads of the library."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", has_threads)
    normalizer, steps, model = FAMILIES[name]
    data = trained(normalizer, steps, **model)
    together, alone = load(data), load(data)
    for group in prompts(seed=3):
        assert together.encode_all(group) == [alone.encode(pieces) for pieces in group]


def test_ids_together_in_the_embedded_model(embedded_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches prompts that go to the library one by one, where there is nothing for its threads to share."""
    called: list[int] = []
    together = encoder.Encoder.together

    def counted(self: encoder.Encoder, texts: list[str]) -> list[list[int]]:
        called.append(len(texts))
        return together(self, texts)

    monkeypatch.setattr(encoder.Encoder, "together", counted)
    tokenizer = embedded_checkpoint.tokenizer
    group: list[Pieces] = [[f"{text} number {place} of all"] for place, text in enumerate(corpus()[:60])]
    found = tokenizer.encode_all(group)
    assert len(called) == 2, "once for what begins a text, once for what follows a cut"
    assert sum(called) > len(group)
    assert found == [tokenizer.encode(pieces) for pieces in group]


def test_a_prompt_that_cannot_be_encoded_leaves_the_others_alone(embedded_checkpoint: Checkpoint) -> None:
    """Catches a row that has its neighbours rejected."""
    tokenizer = embedded_checkpoint.tokenizer
    good, surrogate, long = tokenizer.encode_all([["Some words"], ["a \ud800 b"], ["x" * (MAX_CHARACTERS + 1)]])
    assert good == tokenizer.encode(["Some words"])
    assert isinstance(surrogate, InputError)
    assert isinstance(long, InputError)
    assert "lone surrogate" in str(surrogate)
    assert "the limit is" in str(long)


def test_a_control_string_in_one_of_several_texts() -> None:
    """Catches a control token that gets from a text to those beside it, and neighbours that are cut for nothing."""
    data = trained(None, metaspace("first", False))
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    for left, right in (("<", "/"), ("</", "s"), ("</s", ">")):
        vocab.setdefault(left + right, len(vocab))
        merges.append([left, right])
    begin = "all of the words before are shared by each of these texts and there are a lot of them "
    group: list[Pieces] = [[begin + ending] for ending in ("a b", "</s> a b", "</s> a c", "a c", "</s> a b")]
    tokenizer: Tokenizer = load(data)
    for _ in range(2):
        found = tokenizer.encode_all(group)
        assert found == [load(data).encode(pieces) for pieces in group]
        assert not any(vocab["</s>"] in ids for ids in found if isinstance(ids, list))


def test_a_library_that_fails_leaves_nothing_half_done() -> None:
    """Catches parts without ids that are remembered, and given to the next text that has them."""
    fails = True

    def encode(text: str) -> list[int]:
        if fails and "bad" in text:
            raise RuntimeError("the library broke")
        return [*text.encode()]

    shared = SharedText(encode, frozenset())
    text = "Some words that are there before the others, of which there are many, until a bad one comes at the end"
    with pytest.raises(RuntimeError):
        shared.encode(0, text, encode)
    fails = False
    assert bytes(shared.encode(0, text, encode) or []) == text.encode()
