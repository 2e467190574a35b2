"""Where texts may be cut: the parts give the ids of the whole, and other cuts do not."""

import json
import re
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend

from preftree.engine.tokenizer.cuts import characters_to_drop
from preftree.engine.tokenizer.incremental import STRIDE
from tests.engine.tokenizer_families import (
    BYTES,
    FAMILIES,
    GPT2,
    LLAMA_3,
    MAPPED_BYTES,
    MERGED_SPACES,
    PREPEND,
    REPLACE,
    chains,
    check,
    cuts,
    load,
    sequence,
    split,
    trained,
)
from tests.models import tokenizer_data


@pytest.fixture(scope="module")
def families() -> dict[str, dict[str, Any]]:
    return {name: trained(normalizer, steps, **model) for name, (normalizer, steps, model) in FAMILIES.items()}


@pytest.mark.parametrize("stride", [0, STRIDE])
@pytest.mark.parametrize("name", FAMILIES)
def test_ids_are_those_of_the_whole_text(
    name: str, stride: int, families: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a cut that a normaliser, a regex or a merge reaches across."""
    monkeypatch.setattr("preftree.engine.tokenizer.incremental.STRIDE", stride)
    tokenizer = load(families[name])
    assert cuts(tokenizer)
    library = Backend.from_str(json.dumps(families[name] | {"added_tokens": [], "post_processor": None}))
    for chain in chains(seed=stride, count=60):
        check(tokenizer, chain)
        assert tokenizer.encode(chain[0]) == library.encode(chain[0]).ids


@pytest.mark.parametrize("wrong", [r"(?s:.)", "[A-Za-z] (?=[A-Za-z])", "(?=[A-Za-z] [A-Za-z])"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_wrong_cut_is_caught(
    name: str, wrong: str, families: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inverse: with cuts at other places the test above fails, and loading finds out."""
    tokenizer = load(families[name])
    monkeypatch.setattr("preftree.engine.tokenizer.incremental.STRIDE", 1)
    monkeypatch.setattr("preftree.engine.tokenizer.cuts._CUT", re.compile(wrong))
    with pytest.raises(AssertionError):
        check(tokenizer, [text for chain in chains(seed=0, count=60) for text in chain])
    assert not cuts(load(families[name]))


UNKNOWN: dict[str, dict[str, Any]] = {
    "unknown normalizer": {"normalizer": {"type": "Lowercase"}},
    "normalizer inside a sequence": {"normalizer": sequence({"type": "Strip"}, parts="normalizers")},
    "replaces something": {"normalizer": REPLACE | {"pattern": {"String": "a "}}},
    "prepends something": {"normalizer": PREPEND | {"prepend": "x"}},
    "unknown pre-tokenizer": {"pre_tokenizer": {"type": "Whitespace"}},
    "pre-tokenizer inside a sequence": {"pre_tokenizer": sequence({"type": "Punctuation"}, BYTES)},
    "step behind bytes": {"pre_tokenizer": sequence(BYTES, {"type": "Digits", "individual_digits": True})},
    "unknown regex": {"pre_tokenizer": sequence(split(r"New York|" + LLAMA_3), MAPPED_BYTES)},
    "regex that looks behind": {"pre_tokenizer": sequence(split(r"(?<=a) ?\p{L}+|" + GPT2), MAPPED_BYTES)},
    "merging split": {"pre_tokenizer": sequence(split(LLAMA_3, "MergedWithNext"), MAPPED_BYTES)},
    "split at a string": {"pre_tokenizer": sequence(MERGED_SPACES, MAPPED_BYTES)},
    "words of the vocabulary": {"pre_tokenizer": MAPPED_BYTES, "model": {"ignore_merges": True}},
    "ends of words": {"pre_tokenizer": MAPPED_BYTES, "model": {"end_of_word_suffix": "</w>"}},
    "unknown space": {"pre_tokenizer": None},
    "chance": {"model": {"dropout": 0.1}},
    "unknown setting": {"model": {"new": True}},
    "unknown model": {"model": {"type": "Unigram"}},
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_unknown_is_not_cut(name: str) -> None:
    """Catches a tokenizer that is cut without knowing what it does at a cut."""
    data = tokenizer_data()
    assert characters_to_drop(data) == 0
    changes = UNKNOWN[name]
    assert characters_to_drop({**data, **changes, "model": data["model"] | changes.get("model", {})}) is None


def test_entries_across_words_are_not_cut() -> None:
    """Catches a vocabulary with whole phrases (SuperBPE), in which a merge reaches across a cut."""
    data = tokenizer_data(pre_tokenizer=MAPPED_BYTES)
    assert cuts(load(data))
    model = data["model"] | {
        "vocab": data["model"]["vocab"] | {"eĠ": 261, "eĠa": 262},
        "merges": [*data["model"]["merges"], ["e", "Ġ"], ["eĠ", "a"]],
    }
    tokenizer = load(data | {"model": model})
    assert not cuts(tokenizer)
    for chain in chains(seed=0, count=10):
        check(tokenizer, chain)
    assert 262 in tokenizer.encode("be a")
