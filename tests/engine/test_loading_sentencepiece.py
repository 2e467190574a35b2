"""tokenizer.model: ids equal to SentencePiece's own, control tokens out of reach, and no file that lies."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from string import ascii_letters
from typing import Any

import pytest

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import ModelError
from preftree.engine.files import naming
from preftree.engine.tokenizer.from_files import open_text_parts
from preftree.engine.tokenizer.sentencepiece import BOS, EOS, SentencePieceBackend, _fields, read_sentencepiece
from preftree.engine.tokenizer.tokenizer import Tokenizer
from tests.engine.refusals import assert_refused
from tests.engine.sentencepiece_files import ALL, NO_PREFIX, V1, V3, library, real, trained
from tests.engine.tokenizer_families import FRAGMENTS, chains, check, cuts
from tests.stopwatch import within

HARD = ["<0x41>", "abababa", "aaaaaaa", "xyxyxyx", "-----", "[INST]", "<unk>", "   ", "▁▁", "\ufffd", "\U0010ffff"]


def texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    words = FRAGMENTS + HARD
    return [
        "".join(rng.choices(words, k=rng.randrange(25)))
        if rng.random() < 0.7
        else "".join(rng.choices("aäbc th🦜 \n019.,'<|>_漢▁", k=rng.randrange(1, 60)))
        for _ in range(count)
    ]


def open_model(path: Path, once: bool = True) -> Tokenizer:
    pieces = read_sentencepiece(path)
    with naming(path):
        return Tokenizer(SentencePieceBackend(pieces, {}, prefix_once=once), pieces.role(*BOS), pieces.role(*EOS), True)


def check_against_library(path: Path, once: bool, seed: int) -> None:
    """once: only the prompt begins with a space; else every text behind a control token, too."""
    theirs, bare = library(path), library(path, NO_PREFIX)
    ours = open_model(path, once)
    for text in texts(1000, seed):
        ids = theirs.encode(text)
        assert ours.encode(text) == ids, repr(text)
        assert ours.encode(ours.plain(text)) == theirs.encode(text, add_bos=True), repr(text)
        inside = bare.encode(text) if once else ids
        assert ours.encode([1, text, 2, text]) == [1, *inside, 2, *inside], repr(text)
        assert ours.decode(ids) == theirs.decode(ids), repr(text)


@pytest.mark.parametrize(("name", "once"), [(V1, True), (V3, False)])
def test_ids_of_real_models_equal_the_library(name: str, once: bool) -> None:
    """Catches a pair that is joined too early, a prefix space too many or too few, and bytes in another order."""
    check_against_library(real(name), once, seed=1)


UNIGRAM = {"model_type": "unigram", "byte_fallback": False, "hard_vocab_limit": False}
LETTERS = {"required_chars": ascii_letters, "vocab_size": 900}
NFKC = {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True}


@pytest.mark.parametrize("rules", [{}, NFKC])
def test_ids_of_unigram_models_equal_the_library(tmp_path: Path, rules: dict[str, Any]) -> None:
    """Catches a model that is taken for BPE, and texts that are not normalised, or twice."""
    check_against_library(trained(tmp_path / "m", **UNIGRAM, **rules), True, seed=1)


def ids_of_transformers(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def test_ids_equal_those_of_transformers_llama() -> None:
    """Catches a reading of the file that is SentencePiece's own, but not what models were trained with."""
    from transformers import LlamaTokenizer
    from transformers.tokenization_utils_base import generate_merges

    pieces, ours = read_sentencepiece(real(V1)), open_model(real(V1))
    vocab = {text: index for index, text in enumerate(pieces.texts)}
    merges = generate_merges(vocab, dict(zip(pieces.texts, pieces.scores, strict=True)))
    theirs = LlamaTokenizer(vocab=vocab, merges=merges)
    # It finds control tokens in texts, and puts no space in front of a space, as SentencePiece does.
    some = [text for text in texts(1600) if not re.search("^ |^▁|</?s>|<unk>", text)]
    assert len(some) > 1000
    for text in some:
        assert ours.encode(text) == ids_of_transformers(theirs, text), repr(text)


def test_ids_equal_those_of_transformers_t5(tmp_path: Path) -> None:
    """As above, for Unigram with a normaliser."""
    from transformers import T5Tokenizer

    path = trained(tmp_path / "m", **UNIGRAM, **NFKC, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    pieces = read_sentencepiece(path)
    ours = Tokenizer(SentencePieceBackend(pieces, {}, prefix_once=True), None, pieces.role(*EOS), False)
    rules = dict(_fields(pieces._normalizer))[2]
    scored = list(zip(pieces.texts, pieces.scores, strict=True))
    theirs = T5Tokenizer(vocab=scored, _spm_precompiled_charsmap=rules, extra_ids=0)
    # It normalises grapheme by grapheme, so marks behind spaces, and splits at whitespace of its own.
    some = [text for text in texts(2800) if not re.search("[\x85▁\u0301\u0308]|</s>|<unk>|<pad>", text)]
    assert len(some) > 1000
    for text in some:
        assert ours.encode(text) == ids_of_transformers(theirs, text), repr(text)


@pytest.mark.parametrize(
    ("options", "is_shared"),
    [
        (LETTERS, True),
        ({}, False),  # lacks letters
        ({**LETTERS, "remove_extra_whitespaces": True}, False),
        ({**LETTERS, "split_by_whitespace": False, "max_sentencepiece_length": 30}, False),
        (NFKC, False),
        (UNIGRAM, False),
    ],
)
@pytest.mark.parametrize("once", [True, False])
def test_what_is_shared_gives_the_ids_of_whole_texts(
    tmp_path: Path, options: dict[str, Any], is_shared: bool, once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a prefix space at a cut, and sharing where the library's own ids do not allow it."""
    monkeypatch.setattr("preftree.engine.tokenizer.incremental.STRIDE", 0)
    tokenizer = open_model(trained(tmp_path / "m", **options), once)
    assert cuts(tokenizer) is is_shared
    for chain in chains(seed=3, count=30):
        check(tokenizer, chain)


@pytest.mark.soak
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(2, 6))
def test_ids_of_all_real_models_equal_the_library(name: str, seed: int) -> None:
    """As above, for every model at hand."""
    check_against_library(real(name), seed % 2 == 0, seed)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_dummy_prefix": False},
        {"remove_extra_whitespaces": True},
        {"byte_fallback": False},
        {"split_by_whitespace": False, "split_by_number": False, "max_sentencepiece_length": 30},
        {"user_defined_symbols": ["\n\n", "▁▁▁▁", "  "]},
        {"normalization_rule_name": "nmt_nfkc_cf"},
        {"model_type": "char", "byte_fallback": False},
        {"model_type": "unigram", "normalization_rule_name": "nfkc", "hard_vocab_limit": False},
        {"model_type": "word", "byte_fallback": False, "hard_vocab_limit": False},
    ],
)
def test_ids_of_other_settings_equal_the_library(tmp_path: Path, options: dict[str, Any]) -> None:
    """Catches a setting of the file that is read and forgotten."""
    path = trained(tmp_path / "tokenizer.model", **options)
    theirs, ours = library(path), open_model(path)
    for text in texts(300):
        assert ours.encode(text) == theirs.encode(text), repr(text)


def test_control_and_user_defined_pieces_never_come_from_text(tmp_path: Path) -> None:
    """Catches a chat model's <|im_end|> that a response brings along: declared control, or user-defined."""
    path = trained(tmp_path / "m", control_symbols=["<|user|>"], user_defined_symbols=["<|im_end|>", "<table>"])
    tokenizer = open_model(path)
    assert set(tokenizer.control) == {"<unk>", "<s>", "</s>", "<|user|>", "<|im_end|>", "<table>"}
    for name, index in tokenizer.control.items():
        for text in (name, f"a{name}b", name * 3):
            ids = tokenizer.encode([text[:2], text[2:]])
            assert not set(ids) & set(tokenizer.control.values()), text
            assert tokenizer.decode(ids) == text
        assert tokenizer.split_control(f"a{name}b") == ["a", index, "b"]


@pytest.fixture
def directory(model_dir: Path, tmp_path: Path, edit_json: Callable[..., None]) -> Path:
    """The tiny model with a tokenizer.model in place of its tokenizer.json."""
    trained(model_dir / "tokenizer.model")
    (model_dir / "tokenizer.json").unlink()
    edit_json("tokenizer_config.json", bos_token=..., eos_token=..., chat_template=None)
    return model_dir


def test_directory_with_tokenizer_model(directory: Path, edit_json: Callable[..., None]) -> None:
    """Catches BOS, prefix and extra tokens of tokenizer_config.json that are not asked for."""
    theirs = library(directory / "tokenizer.model")
    parts = open_text_parts(directory)
    assert [path.name for path in parts.files] == ["tokenizer.model", "tokenizer_config.json"]
    assert (parts.tokenizer.bos_id, parts.tokenizer.eos_id, parts.tokenizer.adds_bos) == (1, 2, True)
    size = theirs.vocab_size()
    assert parts.tokenizer.vocab_size == size
    edit_json(
        "tokenizer_config.json",
        add_bos_token=False,
        eos_token={"content": "<|im_end|>"},
        added_tokens_decoder={"1": {"content": "<s>"}, str(size): {"content": "<|im_end|>"}},
    )
    (directory / "added_tokens.json").write_text(json.dumps({"<|im_end|>": size, "<|im_start|>": size + 1}))
    parts = open_text_parts(directory)
    tokenizer = parts.tokenizer
    assert [path.name for path in parts.files] == ["tokenizer.model", "added_tokens.json", "tokenizer_config.json"]
    assert (tokenizer.adds_bos, tokenizer.eos_id, tokenizer.vocab_size) == (False, size, size + 2)
    assert tokenizer.encode(tokenizer.split_control("<|im_start|>a")) == [size + 1, *tokenizer.encode([1, "a"])[1:]]
    assert tokenizer.encode(tokenizer.plain("<|im_end|>")) == theirs.encode("<|im_end|>")
    edit_json("tokenizer_config.json", legacy=True)
    tokenizer = open_text_parts(directory).tokenizer
    assert tokenizer.encode([size + 1, "a"]) == [size + 1, *theirs.encode("a")]
    with pytest.raises(ModelError, match="the tokenizer has ids up to"):
        open_checkpoint(str(directory))


@pytest.mark.parametrize(
    ("added", "named"),
    [
        ({"<s>": 2}, "'<s>' with the id 2 contradicts tokenizer.model"),
        ({"<x>": 5}, "'<x>' with the id 5 contradicts"),
        ({"<x>": -1}, "is none"),
        ({"<x>": 10**12}, "is none"),
        ({"<x>": "1"}, "is none"),
        ({"<x>": 5000, "<y>": 5000}, "two added tokens have the same id"),
    ],
)
def test_contradicting_tokens_are_refused(directory: Path, added: dict[str, Any], named: str) -> None:
    """Catches a control token that would stand for another, and a vocabulary blown up by one id."""
    (directory / "added_tokens.json").write_text(json.dumps(added))
    with pytest.raises(ModelError, match=named) as error:
        open_text_parts(directory)
    assert str(directory) in str(error.value)


def test_other_spaces_are_refused(tmp_path: Path) -> None:
    """Catches ids that look right and are not."""
    assert_refused(open_model, trained(tmp_path / "m", treat_whitespace_as_suffix=True), "writes spaces otherwise")


def piece(text: bytes, kind: int = 1, score: bytes = b"\0\0\0\0") -> bytes:
    inner = b"\x0a" + bytes([len(text)]) + text + b"\x15" + score + b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(inner)]) + inner


def rules(charsmap: bytes) -> bytes:
    """A normaliser of up to 2,000 bytes."""
    length = bytes((len(charsmap) & 0x7F | 0x80, len(charsmap) >> 7))
    spec = b"\x12" + length + charsmap
    return b"\x1a" + bytes((len(spec) & 0x7F | 0x80, len(spec) >> 7)) + spec


BPE = b"\x12\x02\x18\x02"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "holds no pieces"),
        (b"\x80\x04pickle", "damaged|too early|no SentencePiece"),
        (b"\xff" * 30, "more than 64 bits|damaged"),
        (b"\x0a\xff\xff\xff\xff\x0f", "too early"),
        (piece(b"<unk>", 2) + piece(b"a") + piece(b"a") + BPE, "a is already defined"),
        (piece(b"<unk>", 2) + piece(b"a", score=b"\x00\x00\xc0\x7f") + BPE, "score that is no number"),
        (piece(b"a") + BPE, "unk is not defined"),
        (piece(b"<unk>", 2) + piece(b"<0x00>", 6) + b"\x12\x05\x18\x02\x98\x02\x01", "not 256 byte pieces"),
        (piece(b"<unk>", 2) + piece(b"a", score=b"\xff\xff\x7f\x7f") + BPE, "score that is no number"),
        (piece(b"\xff"), "not UTF-8"),
        (piece(b"a", 9), "a piece that is none"),
        (piece(b"") + BPE, "a piece that is none"),
        (piece(b"<unk>", 2) + piece(b"a\0") + BPE, "null character"),
        (piece(b"<unk>", 2) + piece(b"a") + BPE + rules(b"\xff\xff\xff\x7f"), "sentencepiece library refuses"),
        (piece(b"<unk>", 2) + piece(b"a") + BPE + rules(bytes(4) + b"x" * 99 + b"\0"), "sentencepiece library refuses"),
        (piece(b"<unk>", 2) + piece(b"a") + BPE + rules(bytes(4) + b"x" * 999 + b"\0"), "to long texts"),
        (piece(b"<unk>", 2) + piece(b"a") + BPE + b"\x1a\x02\x10\x05", "no SentencePiece model"),
        (b"\x0a\x02\x08\x01", "damaged"),
    ],
)
def test_crafted_files_are_refused(tmp_path: Path, content: bytes, named: str) -> None:
    """Catches a traceback, a hang, and a vocabulary that the tokenizer would read otherwise than it is."""
    (tmp_path / "tokenizer.model").write_bytes(content)
    assert_refused(open_model, tmp_path / "tokenizer.model", named)


def test_a_message_in_many_parts_is_read_quickly(tmp_path: Path) -> None:
    """Catches parts that are put together in quadratic time: minutes for a file of some megabytes."""
    parts = b"\x12\x05\x8a\x01\x02aa" * 300_000
    (tmp_path / "tokenizer.model").write_bytes(piece(b"<unk>", 2) + piece(b"a") + parts + BPE)
    with within(10):
        backend = SentencePieceBackend(read_sentencepiece(tmp_path / "tokenizer.model"), {}, prefix_once=False)
    assert (backend.kind, backend.size) == ("BPE", 2)
