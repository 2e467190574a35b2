"""Every setting of SentencePiece's trainer that changes ids: equal to the library's, or refused."""

import re
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import ModelError
from tests.engine.sentencepiece_files import NO_PREFIX, library, trained
from tests.engine.test_loading_sentencepiece import open_model, texts
from tests.engine.tokenizer_families import chains

UNIGRAM: dict[str, Any] = {"model_type": "unigram", "hard_vocab_limit": False}
WORD: dict[str, Any] = {"model_type": "word", "byte_fallback": False, "hard_vocab_limit": False}
CHAR: dict[str, Any] = {"model_type": "char", "byte_fallback": False}
PLAIN: dict[str, Any] = {"byte_fallback": False}
BLANK: dict[str, Any] = {"user_defined_symbols": ["\n\n", "▁▁▁▁", "  ", "\t", "\u3000", "\r\n"]}
SEVERAL: dict[str, Any] = {"user_defined_symbols": ["<table>", "▁▁", "\n"], "control_symbols": ["<|user|>"]}
CUT: dict[str, Any] = {"split_by_whitespace": False, "max_sentencepiece_length": 30}
WITH_SPACES: dict[str, Any] = {"allow_whitespace_only_pieces": True, "remove_extra_whitespaces": False}
TRIMS: dict[str, Any] = {"remove_extra_whitespaces": True}
BARE: dict[str, Any] = {"add_dummy_prefix": False}
SUFFIX: dict[str, Any] = {"treat_whitespace_as_suffix": True}


def normalised(rule: str) -> dict[str, Any]:
    return {"normalization_rule_name": rule}


# The first settings of a kind are those of the suite.
SETTINGS: list[dict[str, Any]] = [
    BLANK,
    UNIGRAM | BLANK | normalised("nmt_nfkc") | TRIMS,
    UNIGRAM | PLAIN | {"split_digits": True},
    CHAR | BLANK,
    WORD | BARE,
    SUFFIX,
    CUT | WITH_SPACES | BLANK,
    BARE | TRIMS | normalised("nfkc_cf"),
    # The kinds of models, with each normaliser.
    {},
    normalised("nfkc"),
    normalised("nmt_nfkc"),
    normalised("nmt_nfkc_cf"),
    UNIGRAM,
    UNIGRAM | PLAIN,
    UNIGRAM | normalised("nfkc"),
    UNIGRAM | normalised("nfkc_cf"),
    UNIGRAM | normalised("nmt_nfkc_cf") | PLAIN,
    CHAR,
    CHAR | normalised("nmt_nfkc") | TRIMS,
    WORD,
    WORD | normalised("nmt_nfkc"),
    # Whitespace.
    BARE,
    TRIMS,
    BARE | TRIMS,
    UNIGRAM | BARE,
    UNIGRAM | TRIMS,
    UNIGRAM | WITH_SPACES | CUT,
    UNIGRAM | SUFFIX,
    WITH_SPACES,
    CHAR | BARE | TRIMS,
    # Pieces.
    SEVERAL,
    UNIGRAM | SEVERAL,
    WORD | BLANK,
    PLAIN | {"character_coverage": 0.98},
    {"split_digits": True, "split_by_number": False},
    {"split_by_unicode_script": False, "split_by_number": False},
    UNIGRAM | CUT | {"split_by_unicode_script": False, "allow_whitespace_only_pieces": True},
    {"required_chars": "漢字かな🦜", "vocab_size": 900},
    UNIGRAM | {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": 3, "unk_surface": "??"},
]


def check(path: Path, options: dict[str, Any], count: int, seed: int) -> None:
    """Our ids and texts are the library's, or the model is refused in one line."""
    trained(path, **options)
    if "treat_whitespace_as_suffix" in options:
        with pytest.raises(ModelError, match=r"\A[^\n]* writes spaces otherwise [^\n]*\Z"):
            open_model(path)
        return
    ours = open_model(path)
    theirs, bare = library(path), library(path, NO_PREFIX)
    named = re.compile(
        "|".join(re.escape(name) for name in ours.control if name not in ("<unk>", "<s>", "</s>")) or "a^"
    )
    # Strings of a chain begin alike, so that what they share is encoded once.
    chained = [text for chain in chains(seed, count // 50) for text in chain]
    for text in [*texts(count - len(chained), seed), *chained]:
        if named.search(text):  # never made from text here, on purpose
            continue
        ids = theirs.encode(text)
        assert ours.encode(text) == ids, (options, text)
        assert ours.encode([5, text]) == [5, *bare.encode(text)], (options, text)
        assert ours.decode(ids) == theirs.decode(ids), (options, text)


@pytest.mark.parametrize("place", range(8))
def test_ids_of_some_settings(tmp_path: Path, place: int) -> None:
    """Catches a setting of the file that is read and forgotten: labels of other ids, without a word."""
    check(tmp_path / "tokenizer.model", SETTINGS[place], 200, seed=place)


@pytest.mark.soak
@pytest.mark.parametrize("place", range(len(SETTINGS)))
def test_ids_of_all_settings(tmp_path: Path, place: int) -> None:
    """As above, for all and with ten times the texts."""
    assert len(SETTINGS) == 39
    check(tmp_path / "tokenizer.model", SETTINGS[place], 1950, seed=100 + place)
