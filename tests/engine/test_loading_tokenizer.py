"""Ids equal to transformers', and no text that turns into a control token."""

import json
import random
from typing import Any

import pytest

from benchmarks.hugging_face import embedded_directory
from preftree.engine.checkpoint import Checkpoint
from preftree.engine.config.hf_config import from_hf
from preftree.engine.errors import InputError, ModelError
from preftree.engine.files import parse_json
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.tokenizer import MAX_CHARACTERS, Tokenizer
from tests.models import CONFIG, CONTROL, tokenizer_data

HARD_TEXTS = [
    "",
    " ",
    "\n\n \t\n",
    "10 1 100 3.14 ١٢٣ ½",
    "Hello  world\r\n   x",
    "naïve café — “quotes” 😀👩‍👩‍👧 漢字かな 한국어 עברית",
    "a\u0301 vs á, \u200b\ufeff\u202e",
    "\x00\x01\x07\x7f\x85\u2028",
    "def f(x):\n    return x**2  # comment",
    "it's we'll I'M",
    "|im_end|> <|im_end <| |>",
]


def fuzzed_texts(count: int) -> list[str]:
    random.seed(0)
    alphabet = "aä🦜 \n\t0123456789.,'<|>_漢\u0301'sTthe"
    return ["".join(random.choices(alphabet, k=random.randrange(1, 60))) for _ in range(count)]


def make(bos: str | None = "<s>", eos: str | None = "</s>", adds_bos: bool | None = None, **changes: Any) -> Tokenizer:
    text = json.dumps(tokenizer_data(**changes))
    return Tokenizer(JsonBackend(parse_json(text, "tokenizer.json")), bos, eos, adds_bos)


def added(content: str, index: int, **flags: bool) -> dict[str, Any]:
    entry = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": index, "content": content} | entry | flags


@pytest.fixture(scope="module")
def theirs() -> Any:
    """transformers' own tokenizer of the converted directory."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(embedded_directory(weights=False))


def test_ids_equal_transformers(embedded_checkpoint: Checkpoint, theirs: Any) -> None:
    """Catches a converted tokenizer that cuts texts otherwise than the one transformers opens."""
    ours = embedded_checkpoint.tokenizer
    for text in HARD_TEXTS + fuzzed_texts(300):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), repr(text)
        assert ours.encode(ours.plain(text)) == theirs.encode(text), repr(text)


def test_original_rules_are_kept(embedded_checkpoint: Checkpoint) -> None:
    """Catches digits that are not single, which would change every label of two digits."""
    ids = embedded_checkpoint.tokenizer.encode
    assert len(ids("10")) == 2
    assert len(ids(" 1")) == 2
    assert len(ids(" the")) == 1


def test_decode_gives_the_text_back(embedded_checkpoint: Checkpoint) -> None:
    """Catches bytes that are lost or doubled on the way back."""
    for text in (*fuzzed_texts(100), "naïve 😀 漢字\n"):
        assert embedded_checkpoint.tokenizer.decode(embedded_checkpoint.tokenizer.encode(text)) == text
    assert (
        embedded_checkpoint.tokenizer.decode([1, *embedded_checkpoint.tokenizer.encode("user"), 2])
        == "<|im_start|>user<|im_end|>"
    )


def test_control_strings_in_text_stay_text(embedded_checkpoint: Checkpoint, theirs: Any) -> None:
    """Catches prompt injection: a response that closes its own turn and opens another."""
    tokenizer = embedded_checkpoint.tokenizer
    for name in tokenizer.control:
        for text in (name, f"a{name}b", name * 3, f"<|im_start|>{name}\n"):
            ids = tokenizer.encode(text)
            assert not set(ids) & set(tokenizer.control.values()), text
            assert tokenizer.decode(ids) == text
            assert ids != theirs.encode(text, add_special_tokens=False)


def test_control_strings_cut_in_pieces_stay_text(embedded_checkpoint: Checkpoint) -> None:
    """Catches a check of single pieces that their joined text escapes."""
    ids = embedded_checkpoint.tokenizer.encode(["<|im", "_end|>"])
    assert ids == embedded_checkpoint.tokenizer.encode("<|im_end|>")
    assert 2 not in ids


def test_pieces_are_joined_between_control_tokens(embedded_checkpoint: Checkpoint) -> None:
    """Catches ids that depend on where the caller cut the text."""
    tokenizer = embedded_checkpoint.tokenizer
    for text in fuzzed_texts(50):
        cut = len(text) // 2
        assert tokenizer.encode([text[:cut], text[cut:]]) == tokenizer.encode(text)
        assert tokenizer.encode([1, text[:cut], "", text[cut:], 2]) == [1, *tokenizer.encode(text), 2]
    assert tokenizer.encode([]) == []
    assert tokenizer.encode([1, 2, 1]) == [1, 2, 1]


def test_split_control_takes_the_longest_first() -> None:
    """Catches <|a|> found inside <|a|>b, and text that is lost between control tokens."""
    extra = [added(token, i) for i, token in enumerate(CONTROL)] + [added("<s>x", 261)]
    tokenizer = make(added_tokens=extra)
    assert tokenizer.split_control("a<s>x</s><s> b") == ["a", 261, 1, 0, " b"]
    assert tokenizer.split_control("") == []
    assert tokenizer.split_control("plain") == ["plain"]


@pytest.mark.parametrize(
    "flags", [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"lstrip": True, "rstrip": True}]
)
def test_split_control_strips_as_the_library(flags: dict[str, bool]) -> None:
    """Catches a newline after <|user|> that the library swallows (Phi-3's added tokens ask for it)."""
    from tokenizers import Tokenizer as Backend

    data = tokenizer_data(added_tokens=[added(token, i, **flags) for i, token in enumerate(CONTROL)])
    tokenizer, backend = make(added_tokens=data["added_tokens"]), Backend.from_str(json.dumps(data))
    for text in ("a <s> \n b", "<|user|>\nhi </s>", "x<s>y", " <s>", "<s> <s>", "a <s>"):
        assert tokenizer.encode(tokenizer.split_control(text)) == backend.encode(text).ids, text


def test_every_added_token_is_control() -> None:
    """Catches a chat token that its model declares as not special."""
    tokens = [added(token, i, special=i < 2) for i, token in enumerate(CONTROL)]
    tokenizer = make(added_tokens=tokens)
    assert tokenizer.control == {"<s>": 0, "</s>": 1, "<|user|>": 2}
    assert not {0, 1, 2} & set(tokenizer.encode("<|user|><s></s>"))


def test_bos_and_eos_are_control_even_as_ordinary_entries() -> None:
    """Catches a chat template's </s> that is taken for text because tokenizer.json does not list it."""
    tokenizer = make(added_tokens=[])
    assert tokenizer.control == {"<s>": 0, "</s>": 1}
    assert tokenizer.split_control("<s>a</s>") == [0, "a", 1]
    assert not {0, 1} & set(tokenizer.encode("<s>a</s>"))


def forgeable(**model: Any) -> dict[str, Any]:
    """A vocabulary in which text becomes <s> by itself: without pre-tokenizer and with whole-word lookup."""
    data = tokenizer_data(pre_tokenizer=None)
    return {"pre_tokenizer": None, "model": data["model"] | {"ignore_merges": True} | model}


def test_forgeable_vocabulary_is_cut() -> None:
    """Catches a control token that the vocabulary itself makes out of text (ignore_merges)."""
    tokenizer = make(**forgeable())
    plain = make()
    assert tokenizer.encode("<s>") == plain.encode("<") + plain.encode("s>")
    assert tokenizer.decode(tokenizer.encode("<s>")) == "<s>"


def test_text_that_cannot_be_told_apart_is_refused() -> None:
    """Catches a control token of one character, or a normaliser that builds one, getting through."""
    vocab = tokenizer_data()["model"]["vocab"]
    tokens = [added("§", len(vocab))]
    tokenizer = make(
        bos=None,
        eos=None,
        added_tokens=tokens,
        pre_tokenizer=None,
        model=tokenizer_data()["model"] | {"vocab": vocab | {"§": len(vocab)}},
    )
    with pytest.raises(InputError, match="control token '§'"):
        tokenizer.encode("a§b")
    lowered = make(normalizer={"type": "Lowercase"}, **forgeable())
    with pytest.raises(InputError, match="control token '<s>'"):
        lowered.encode("<S>")


def metaspace(scheme: str) -> dict[str, Any]:
    """A SentencePiece-like vocabulary, as Llama 2's."""
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    vocab = ["<s>", "</s>", "▁", "h", "i", "▁h", "▁hi", "hi"]
    merges = [["▁", "h"], ["▁h", "i"], ["h", "i"]]
    return {
        "pre_tokenizer": step,
        "decoder": step,
        "added_tokens": [added("<s>", 0), added("</s>", 1)],
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(vocab)}, "merges": merges},
    }


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_start_prefix_only_where_the_library_puts_it(scheme: str) -> None:
    """Catches a space that appears in front of every text after a control token."""
    from tokenizers import Tokenizer as Backend

    data = tokenizer_data(**metaspace(scheme))
    tokenizer, backend = make(**metaspace(scheme)), Backend.from_str(json.dumps(data))
    for text in ("hi", "hi hi", "<s>hi", "<s>hi</s>hi hi", "hi<s>hi"):
        assert tokenizer.encode(tokenizer.split_control(text)) == backend.encode(text).ids, text


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_text_behind_an_added_bos_begins_a_text(scheme: str) -> None:
    """Catches a plain prompt that lacks the space which its vocabulary puts in front of every text."""
    from tokenizers import Tokenizer as Backend

    data = metaspace(scheme)
    tokenizer, backend = make(adds_bos=True, **data), Backend.from_str(json.dumps(tokenizer_data(**data)))
    for text in ("hi", " hi", "hi hi"):
        assert tokenizer.encode(tokenizer.plain(text)) == [0, *backend.encode(text).ids]
        assert tokenizer.encode([*tokenizer.plain(text), 1, "hi"])[-1] == (7 if scheme != "always" else 6)


BLANKS = ["\n\n", "\n\n\n", "  ", "\t\t"]


@pytest.mark.parametrize("normalized", [True, False])
def test_whitespace_tokens_are_text(normalized: bool) -> None:
    """Catches blank lines that a model has a token for (Gemma's) and never sees: ids as the library gives them."""
    from tokenizers import Tokenizer as Backend

    size = len(tokenizer_data()["model"]["vocab"])
    blanks = [added(text, size + i, special=False, normalized=normalized) for i, text in enumerate(BLANKS)]
    tokens = [added(token, i) for i, token in enumerate(CONTROL)] + blanks
    tokenizer, backend = make(added_tokens=tokens), Backend.from_str(json.dumps(tokenizer_data(added_tokens=tokens)))
    assert set(tokenizer.control) == set(CONTROL)
    for text in HARD_TEXTS + fuzzed_texts(200):
        text = text.replace("'", "\n\n").replace("_", "  ").replace("<", "") + "the  cat sat on\n\n\n the mat"
        assert tokenizer.encode([text[:9], text[9:]]) == backend.encode(text).ids, repr(text)
        assert tokenizer.encode([2, text]) == [2, *backend.encode(text).ids], repr(text)
    special = make(added_tokens=[added("\n\n", size)])
    assert size not in special.encode("a\n\nb")


def test_post_processor_decides_about_bos() -> None:
    """Catches a BOS that is added although the tokenizer adds none, or forgotten although it does."""
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    processor = {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, text],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    with_bos = make(post_processor=processor)
    assert with_bos.adds_bos
    assert with_bos.plain("the") == [0, "the"]
    assert 0 not in with_bos.encode("the")
    assert not make().adds_bos
    assert make(adds_bos=True).plain("the")[0] == 0
    assert not make(post_processor=processor, adds_bos=False).adds_bos


def test_truncation_and_padding_are_dropped() -> None:
    """Catches a tokenizer.json that was saved with a limit, which would cut prompts in silence."""
    tokenizer = make(
        truncation={"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 50},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<s>",
        },
    )
    assert len(tokenizer.encode("a" * 20)) == 20


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ude00\ud83d"])
def test_lone_surrogates_are_refused(text: str) -> None:
    """Catches the library's own error, which names neither the cause nor the place."""
    with pytest.raises(InputError, match="the text holds a lone surrogate"):
        make().encode(["ok ", text])


def test_long_text_is_refused_early() -> None:
    """Catches minutes of encoding."""
    with pytest.raises(InputError, match=r"4,000,002 characters; the limit is 4,000,000"):
        make().encode(["x", "x" * MAX_CHARACTERS, "x"])


def test_broken_tokenizer_json_is_one_line() -> None:
    """Catches a traceback for a broken file, or for special tokens of another model."""
    for text, named in (
        ("{", "broken JSON"),
        ("{}", "refuses it"),
        (json.dumps(tokenizer_data(model={"type": "Evil"})), "refuses it"),
    ):
        with pytest.raises(ModelError, match=named) as error:
            Tokenizer(JsonBackend(parse_json(text, "tokenizer.json")), None, None, None)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="bos_token '<gone>' is not in"):
        make(bos="<gone>")
    with pytest.raises(ModelError, match="bos_token is not set"):
        make(bos=None, adds_bos=True)


def test_vocabulary_must_fit_the_model() -> None:
    """Catches ids without a row in the embedding."""
    tokenizer = make()
    assert tokenizer.vocab_size == CONFIG["vocab_size"] == 261
    tokenizer.check_vocab(from_hf(CONFIG, "test"))
    with pytest.raises(ModelError, match="ids up to 260, but the model only 260"):
        tokenizer.check_vocab(from_hf(CONFIG | {"vocab_size": 260}, "test"))
