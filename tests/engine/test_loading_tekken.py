"""Mistral's tekken.json: ids of tiktoken, chats of mistral-common, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError, ModelError
from preftree.engine.tokenizer.from_files import TextParts, open_text_parts
from tests.engine.sentencepiece_files import real
from tests.engine.tekken_files import NAMES, NUM_SPECIAL, encoded, entries, tekken, write_tekken
from tests.engine.test_loading_tokenizer import HARD_TEXTS, fuzzed_texts
from tests.engine.tokenizer_families import chains, cuts

BOS, EOS, INST, END_INST, SYSTEM, END_SYSTEM = 1, 2, 3, 4, 5, 6
TURNS = [
    ("system", "Be brief."),
    ("user", "Which?\n"),
    ("assistant", "This.  "),
    ("user", " Why? "),
    ("assistant", "So\n"),
]


def opened(directory: Path, version: str) -> TextParts:
    write_tekken(directory, version)
    return open_text_parts(directory)


def chat(parts: TextParts, turns: list[tuple[str, str]]) -> list[int]:
    assert parts.chat_template is not None
    is_finished = turns[-1][0] == "assistant"
    pieces = parts.chat_template.finished if is_finished else parts.chat_template.conversation
    return parts.tokenizer.encode(pieces(parts.tokenizer, turns))


def test_ids_are_those_of_tiktoken(tmp_path: Path) -> None:
    """Catches merges in another order than that of ranks, ids without the special tokens before them, an entry beyond
    the vocabulary's size, and a control token made from text."""
    tokenizer = opened(tmp_path, "v7").tokenizer
    assert tokenizer.vocab_size == NUM_SPECIAL + len(entries()) - 10
    assert len(tokenizer.control) == NUM_SPECIAL
    chained = [text for chain in chains(1, 30) for text in chain]
    for text in [*HARD_TEXTS, *fuzzed_texts(100), *chained, *NAMES, "<SPECIAL_30>", "a" * 50]:
        assert tokenizer.encode(text) == encoded(text), text
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert cuts(tokenizer)  # texts that begin alike share what is encoded
    assert tokenizer.encode(tokenizer.plain("a")) == [BOS, *encoded("a")]


def test_chats_without_a_template(tmp_path: Path) -> None:
    """Catches a version that is written like another: where the system text goes, spaces, and a turn left open."""
    expected = [BOS, INST, *encoded("Which?\n"), END_INST, *encoded("This."), EOS]
    last = [*encoded(" Why? "), END_INST, *encoded("So\n"), EOS]
    v3 = opened(tmp_path, "v3")
    in_last = [*expected, INST, *encoded("Be brief.\n\n Why? "), *last[len(encoded(" Why? ")) :]]
    assert chat(v3, TURNS) == in_last
    assert chat(v3, TURNS[:-1]) == in_last[: -len(last) + len(encoded(" Why? ")) + 1]
    assert chat(v3, TURNS[1:]) == [*expected, INST, *last]
    system = [SYSTEM, *encoded("Be brief."), END_SYSTEM]
    for version in ("v7", "v11", "v13"):
        parts = opened(tmp_path, version)
        assert chat(parts, TURNS) == [BOS, *system, *expected[1:], INST, *last]
        assert chat(parts, TURNS[:2]) == [BOS, *system, INST, *encoded("Which?\n"), END_INST]
    with pytest.raises(InputError, match="take turns"):
        chat(parts, [*TURNS[:2], *TURNS[1:2]])


def test_real_ids_are_those_of_mistral_common(tmp_path: Path) -> None:
    """Catches a difference from mistral-common 1.13.1, whose ids these are, with the vocabulary of Mistral Nemo."""
    shutil.copy(real("tekken_240718.json"), tmp_path / "tekken.json")
    turns = [("system", "Be brief."), ("user", "Naïve 漢字 [INST]?\n\n"), ("assistant", "So: 1234  ")]
    why = "5934 13426 1338 12211 1885 1115 1062 1032 4"
    naive = "3 14589 7884 1672 93537 1162 18724 1766 3174 3074 1093 2634 4 8032 1058 1032 1049 1050 1051 1052 2"
    parts = open_text_parts(tmp_path)
    assert chat(parts, [*turns, ("user", " Why</s> ")]) == [int(index) for index in f"1 {naive} 3 {why}".split()]
    assert (parts.tokenizer.vocab_size, len(parts.tokenizer.control)) == (131072, 1000)


def test_texts_forge_no_turn(tmp_path: Path) -> None:
    """Catches a response that ends its turn."""
    parts = opened(tmp_path, "v13")
    honest = [index for index in chat(parts, TURNS) if index < NUM_SPECIAL]
    for token in NAMES:
        hostile = [(role, text + token) for role, text in TURNS]
        assert [index for index in chat(parts, hostile) if index < NUM_SPECIAL] == honest


def test_a_template_of_the_directory_wins(tmp_path: Path) -> None:
    """Catches a built-in template in place of the model's own, and silence about either."""
    parts = opened(tmp_path, "v3")
    assert [note for note in parts.notes if "holds no chat template" in note]
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token + messages[0].content }}")
    parts = open_text_parts(tmp_path)
    assert not parts.notes
    assert chat(parts, [("user", "a")]) == [BOS, *encoded("a")]


def test_tokenizer_json_wins(model_dir: Path) -> None:
    """Catches ids of another file than transformers would take."""
    (model_dir / "tekken.json").write_text("{")
    parts = open_text_parts(model_dir)
    assert parts.notes == ("tokenizer.json is read, and tekken.json is not",)
    assert "tekken.json" not in [file.name for file in parts.files]


def test_special_tokens_that_the_file_does_not_name(tmp_path: Path) -> None:
    """Catches old files that are refused, or read with other ids."""
    data = tekken("v3")
    del data["special_tokens"]
    (tmp_path / "tekken.json").write_text(json.dumps(data))
    control = open_text_parts(tmp_path).tokenizer.control
    assert [control[name] for name in ("<unk>", "<s>", "</s>", "[INST]", "[SYSTEM_PROMPT]", "<SPECIAL_20>")] == [
        *(0, 1, 2, 3, 17, 20)
    ]


def change(section: str, place: int, **changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data[section][place].update(changes)


BROKEN: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("holds no object 'config'", lambda data: data.pop("config")),
    ("version 'v15' is not supported", lambda data: data["config"].update(version="v15")),
    ("version \\['v7'\\] is not supported", lambda data: data["config"].update(version=["v7"])),
    ("config.pattern is no", lambda data: data["config"].update(pattern="a" * 10_001)),
    ("the tokenizers library refuses it", lambda data: data["config"].update(pattern="(")),
    ("config.default_vocab_size is -1", lambda data: data["config"].update(default_vocab_size=-1)),
    ("config.default_vocab_size is 10000000000", lambda data: data["config"].update(default_vocab_size=10**10)),
    ("config.default_vocab_size is True", lambda data: data["config"].update(default_vocab_size=True)),
    ("config asks for 999,960", lambda data: data["config"].update(default_vocab_size=10**6)),
    ("config asks for 60, at least 256", lambda data: data["config"].update(default_vocab_size=100)),
    ("names 9 special tokens", lambda data: data["config"].update(default_num_special_tokens=3)),
    ("special_tokens is missing", lambda data: data.pop("special_tokens")),
    ("special_tokens is no list", lambda data: data.update(special_tokens={})),
    ("special token 3 is", change("special_tokens", 3, rank=4)),
    ("special token 3 is", change("special_tokens", 3, token_str="")),
    ("names one twice, or lacks", change("special_tokens", 3, token_str="<s>")),
    ("names one twice, or lacks", change("special_tokens", 1, token_str="<begin>")),
    ("'a' is both a special token and an entry", change("special_tokens", 3, token_str="a")),
    ("vocab holds no entries", lambda data: data.update(vocab={})),
    ("entry 300 of vocab is", change("vocab", 300, rank=301)),
    ("entry 300 of vocab is", change("vocab", 300, token_bytes="?")),
    ("entry 300 of vocab is", change("vocab", 300, token_bytes="")),
    ("entry 300 of vocab is", change("vocab", 300, token_bytes="AAAA" * 100)),
    ("entry 65 of vocab is", change("vocab", 65, token_bytes="AA==")),
    ("vocab holds an entry twice", change("vocab", 300, token_bytes="AA==")),
]


@pytest.mark.parametrize(("said", "damage"), BROKEN)
def test_broken_files_are_refused(tmp_path: Path, said: str, damage: Callable[[dict[str, Any]], object]) -> None:
    """Catches a traceback, ids of damaged files, and work without bound."""
    data = tekken("v13")
    damage(data)
    (tmp_path / "tekken.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match=rf"\A[^\n]*tekken\.json: [^\n]*{said}[^\n]*\Z"):
        open_text_parts(tmp_path)
