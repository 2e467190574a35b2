"""Files of tokenizers that draw at random, that grow texts without end, or that make the library panic."""

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preftree.engine.errors import InputError, ModelError, PreftreeError
from preftree.engine.tokenizer.held_back import held_back
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.sentencepiece import _fields, read_sentencepiece
from preftree.engine.tokenizer.tokenizer import Tokenizer
from tests.engine.sentencepiece_files import trained
from tests.models import tokenizer_data
from tests.processes import printed
from tests.stopwatch import within

MODEL: dict[str, Any] = tokenizer_data()["model"]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
HARD_REGEX = {"Regex": "(a|a|ab|.)*(x+x+)+y"}
HARD_TEXT = "a" * 40 + "x" * 40


def make(**changes: Any) -> Tokenizer:
    return Tokenizer(JsonBackend(tokenizer_data(**changes)), None, None, None)


def several(parts: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", parts: list(steps)}


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def split(pattern: dict[str, str], behavior: str = "Isolated") -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def there_and_back(*texts: str, **changes: Any) -> None:
    tokenizer = make(**changes)
    for text in texts:
        tokenizer.decode(tokenizer.encode([0, text]))


@contextmanager
def silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    capfd.readouterr()
    yield
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["BPE", None])
def test_dropout_is_refused(name: str | None) -> None:
    """Catches a tokenizer that gives other ids each time, whether or not it names its type."""
    model = MODEL | {"dropout": 0.5, "type": name}
    with pytest.raises(ModelError, match="'dropout', which cuts the same text otherwise each time"):
        make(model={key: value for key, value in model.items() if value is not None})
    assert make(model=MODEL | {"dropout": 0.0}).encode("the") == make().encode("the")


def test_two_entries_with_one_id_are_refused() -> None:
    """Catches texts of rationales that differ from process to process: the library picks either entry."""
    with pytest.raises(ModelError, match="two entries of its vocabulary have the same id"):
        make(model=MODEL | {"vocab": MODEL["vocab"] | {"zzz": 5}})


ENDLESS = {
    "replace": {"normalizer": several("normalizers", *[replace({"String": "a"}, "aa")] * 40)},
    "nested": {"normalizer": several("normalizers", *[several("normalizers", replace({"String": "a"}, "a" * 99))] * 6)},
    "between": {"normalizer": several("normalizers", *[replace({"Regex": ""}, "a" * 100)] * 5)},
    "of no type": {"normalizer": {"prepend": "a" * 100_000}},
    "prepend": {"normalizer": several("normalizers", *[{"type": "Prepend", "prepend": "aaa"}] * 9)},
    "bytes": {"pre_tokenizer": several("pretokenizers", *[BYTES] * 40)},
    "normal forms": {
        "normalizer": several("normalizers", *[replace({"String": " "}, "\ufdfa"), {"type": "NFKC"}] * 40)
    },
    "decoder": {"decoder": several("decoders", *[replace({"String": "a"}, "aa")] * 40)},
    "steps": {"normalizer": several("normalizers", *[{"type": "NFC"}] * 100_000)},
}


@pytest.mark.parametrize("case", ENDLESS)
def test_endless_growth_is_refused(case: str) -> None:
    """Catches a few letters that become 10^12, for which the process is killed, and steps without number."""
    with (
        within(5),
        pytest.raises(ModelError, match=r"can make a text .* times as long; preftree's limit is 1,000|100,001 steps"),
    ):
        make(**ENDLESS[case]).encode("a ")


def test_words_are_looked_up_in_bounded_time() -> None:
    """Catches a word of 100,000 letters, each part of which is looked up, and an entry that all places may begin."""
    model = {"type": "WordPiece", "unk_token": "t", "continuing_subword_prefix": "", "vocab": {"t": 0}}
    with pytest.raises(ModelError, match="max_input_chars_per_word is 100,000"):
        make(model=model | {"max_input_chars_per_word": 100_000}, pre_tokenizer=None)
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": [["b", -1.0], ["a" * 100_000, -2.0]], "byte_fallback": False}
    with pytest.raises(ModelError, match="the letters of its longest entry are 100,000"):
        make(model=unigram, pre_tokenizer=None, added_tokens=[])


def test_texts_may_be_shorter_where_they_grow() -> None:
    """Catches a limit on what is given alone: 4,000,000 letters would become 600 times as many."""
    tokenizer = make(normalizer=replace({"String": "\u00e9"}, "e" * 120))
    with pytest.raises(InputError, match=r"106,667 characters; the limit is 106,666"):
        tokenizer.encode("\u00e9" * 106_667)
    assert len(tokenizer.encode("\u00e9" * 10)) == 1200


def test_padding_and_truncation_are_never_run() -> None:
    """Catches a process that ends as it asks for 40 terabytes of padding."""
    options = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"}
    assert make(padding=options | {"strategy": {"Fixed": 10**13}}).encode("the") == make().encode("the")


def test_merges_cut_in_a_character_are_refused() -> None:
    """Catches a merge that ends the whole process, as the library cuts its prefix off in the middle of a character."""
    model = {"type": "BPE", "vocab": {"a": 0, "\u00e9": 1}, "continuing_subword_prefix": "#"}
    for merges in ([["a", "\u00e9"]], ["a \u00e9"]):
        with pytest.raises(ModelError, match="lacks the continuing_subword_prefix"):
            make(model=model | {"merges": merges}, added_tokens=[])


@pytest.mark.parametrize("model", ["BPE", 7, [], {}, {"type": "BPE", "continuing_subword_prefix": "#", "merges": [5]}])
def test_models_that_are_none_are_refused(model: Any) -> None:
    """Catches an AttributeError of the checks that run before the library's own."""
    with pytest.raises(ModelError, match="refuses it"):
        make(model=model)


def test_published_chains_are_not_refused(tmp_path: Path) -> None:
    """Catches bounds that a real model exceeds: XLM-R's steps with a real table, Llama 2's, GPT-4's, and BERT's."""
    pieces = read_sentencepiece(trained(tmp_path / "m", normalization_rule_name="nmt_nfkc"))
    table = base64.b64encode(dict(_fields(pieces._normalizer))[2]).decode()
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    precompiled = {"type": "Precompiled", "precompiled_charsmap": table}
    bert = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    chains: list[dict[str, Any]] = [
        {
            "normalizer": several("normalizers", precompiled, replace({"Regex": " {2,}"}, " ")),
            "pre_tokenizer": several("pretokenizers", {"type": "WhitespaceSplit"}, metaspace),
        },
        {
            "normalizer": several(
                "normalizers", {"type": "Prepend", "prepend": "\u2581"}, replace({"String": " "}, "\u2581")
            )
        },
        {"normalizer": {"type": "NFKC"}, "pre_tokenizer": BYTES},
        {"normalizer": {"type": "BertNormalizer"} | bert, "pre_tokenizer": {"type": "BertPreTokenizer"}},
    ]
    for chain in chains:
        assert make(**chain).encode("a" * 100_000)


PANICS: dict[str, dict[str, Any]] = {
    "table": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "//8A/////wD/AAD/"}},
    "table beyond itself": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8AAAAA"}},
    "table of no type": {"normalizer": {"precompiled_charsmap": "//8A/////wD/AAD/"}},
    "split": {"pre_tokenizer": split(HARD_REGEX)},
    "replace": {"normalizer": replace(HARD_REGEX, "z")},
    "no length": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "nothing in front": {"normalizer": {"type": "Prepend", "prepend": ""}, "pre_tokenizer": BYTES},
    "decoder": {"decoder": {"type": "Strip", "content": "x", "start": 0, "stop": 10**9}},
    "prefix": {"model": MODEL | {"continuing_subword_prefix": "#" * 50}},
}


@pytest.mark.parametrize("case", PANICS)
def test_panics_are_one_line_and_print_nothing(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Catches a panic, which is no Exception, and what Rust prints of it before anybody can catch it."""
    with within(10), silent(capfd), pytest.raises(ModelError, match=r"refuses it|fails with it|damaged|lacks") as error:
        there_and_back(HARD_TEXT, **PANICS[case])
    assert "\n" not in str(error.value)


def test_standard_error_is_held_back_and_comes(capfd: pytest.CaptureFixture[str]) -> None:
    """Catches lines of other threads that are lost, and those of a failure that are not."""

    def write() -> None:
        os.write(2, b"kept\n")

    capfd.readouterr()
    with held_back():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "kept\n"
    with silent(capfd), suppress(ValueError), held_back():
        write()
        raise ValueError


def test_closed_standard_error_does_no_harm() -> None:
    """Catches a tokenizer that does not open in a process without standard error."""
    code = f"import os; os.close(2); from {__name__} import make; print(make().encode('the'))"
    assert printed("-c", code).strip() == str(make().encode("the"))


NORMALIZERS = [
    *({"type": name} for name in ("NFC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")),
    {"type": "Strip", "strip_left": True, "strip_right": True},
    *({"type": "Prepend", "prepend": text} for text in ("\u00e9", "")),
    *(replace(*given) for given in (({"String": "e"}, "\u6f22"), ({"String": ""}, "x"), ({"Regex": r"\s+"}, ""))),
]
PRE_TOKENIZERS = [
    *(BYTES | {"use_regex": uses, "add_prefix_space": uses} for uses in (True, False)),
    *({"type": "Metaspace", "replacement": "a", "prepend_scheme": name, "split": True} for name in ("always", "first")),
    *({"type": name} for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts")),
    *(split({kind: text}, "Removed") for kind, text in (("String", ""), ("String", "\u00e9"), ("Regex", "$"))),
]
DECODERS = [
    BYTES,
    *({"type": name} for name in ("ByteFallback", "Fuse")),
    *({"type": "Strip", "content": "t", "start": start, "stop": 0} for start in (2, 10**9)),
    {"type": "WordPiece", "prefix": "\u00e9", "cleanup": True},
]
FLAGS = st.fixed_dictionaries(
    {name: st.booleans() for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    normalizers=st.lists(st.sampled_from(NORMALIZERS), max_size=2),
    pre_tokenizers=st.lists(st.sampled_from(PRE_TOKENIZERS), max_size=2),
    decoders=st.lists(st.sampled_from(DECODERS), max_size=2),
    tokens=st.permutations(["<s>", "  ", "\n", "\u00e9", "", " a"]),
    flags=FLAGS,
)
def test_any_steps_end_in_ids_or_one_line(
    normalizers: list[Any],
    pre_tokenizers: list[Any],
    decoders: list[Any],
    tokens: list[str],
    flags: dict[str, bool],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Catches steps that are taken for safe and print as the library panics."""
    with silent(capfd), suppress(PreftreeError):
        there_and_back(
            *("the na\u00efve text a \u6f22\u5b57 \u00e9\n\t", "\u00e9", " ", "\x00\u200b \ufdfa a"),
            normalizer=several("normalizers", *normalizers),
            pre_tokenizer=several("pretokenizers", *pre_tokenizers),
            decoder=several("decoders", *decoders),
            added_tokens=[{"id": index, "content": token} | flags for index, token in enumerate(tokens[:3])],
        )


def test_known_tokenizers_are_not_held_back() -> None:
    """Catches a lock, and a system call, for every text of a model that is known not to need them."""
    assert JsonBackend(tokenizer_data())._guard is not held_back
    assert JsonBackend(tokenizer_data(pre_tokenizer=split(HARD_REGEX)))._guard is held_back
