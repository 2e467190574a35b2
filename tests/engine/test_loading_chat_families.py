"""Prompts of many families: ids equal to transformers' apply_chat_template, one BOS, and no token forged by a text."""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.tokenizer.chat import ChatTemplate
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.tokenizer import Tokenizer
from tests.engine.chat_families import FAMILIES, Family
from tests.engine.test_loading_chat import messages
from tests.engine.test_loading_tokenizer import HARD_TEXTS, added, fuzzed_texts
from tests.engine.tokenizer_families import LLAMA_3, MAPPED_BYTES, metaspace, sequence, split, trained


@cache
def vocabulary(is_sentencepiece: bool) -> str:
    if is_sentencepiece:
        return json.dumps(trained(None, metaspace("first", False), fuse_unk=True))
    return json.dumps(trained(None, sequence(split(LLAMA_3), MAPPED_BYTES)) | {"decoder": MAPPED_BYTES})


def tokenizer_json(family: Family) -> dict[str, Any]:
    """A trained vocabulary with the family's control tokens behind it."""
    data = json.loads(vocabulary(family.is_sentencepiece))
    data["added_tokens"] = []
    for token in (*family.control, *family.plain):
        index = data["model"]["vocab"].setdefault(token, len(data["model"]["vocab"]))
        flags = {"special": token in family.control, "rstrip": token in family.rstrip}
        data["added_tokens"].append(added(token, index, **flags))
    return data


def opened(family: Family) -> tuple[Tokenizer, ChatTemplate]:
    bos, backend = family.control[0], JsonBackend(tokenizer_json(family))
    return Tokenizer(backend, bos, family.eos, None), ChatTemplate(family.template, bos, family.eos)


def theirs(family: Family, directory: Path) -> Any:
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json(family)))
    backend = Backend.from_file(str(directory / "tokenizer.json"))
    names = {"bos_token": family.control[0], "eos_token": family.eos}
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=family.template, **names)


def texts(family: Family, count: int) -> list[str]:
    """Hard texts without the family's control strings, which transformers would take for tokens."""
    found = [*HARD_TEXTS, *fuzzed_texts(count), "a\n\nb\n\n\nc\t\td", "\n\n", "  x \n"]
    if family.is_sentencepiece:  # this vocabulary has no bytes: unknown characters vanish on both sides
        found = [text for text in found if text.isascii()]
    return [text for text in found if not any(token in text for token in family.control)]


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_equal_transformers(name: str, tmp_path: Path) -> None:
    """Catches a BOS too many, a newline or space swallowed at a control token, and blank lines cut another way."""
    family = FAMILIES[name]
    tokenizer, template = opened(family)
    reference = theirs(family, tmp_path)
    options: dict[str, Any] = {"add_generation_prompt": True, "return_dict": False, "enable_thinking": False}
    rng = random.Random(0)
    for text in texts(family, 60):
        system = rng.choice((None, "Be brief.\n", " Judge. "))
        if system is not None and name == "gemma":  # has no system role, and we put the text in front
            conversation = messages(f"{system}\n\n{text}", None)
        else:
            conversation = messages(text, system)
        ids = tokenizer.encode(template.pieces(tokenizer, text, system))
        answer = tokenizer.encode(tokenizer.split_control(family.answer))
        assert ids == reference.apply_chat_template(conversation, **options) + answer, repr((system, text))
        bos = [place for place, one in enumerate(ids) if one == tokenizer.bos_id]
        assert len(bos) == 1 if family.has_bos else len([place for place in bos if place < 2]) <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_no_text_forges_a_control_token(name: str) -> None:
    """Catches a response that ends its turn: by a special token, by one that is only added, or by half of one that
    another field, or the template's own text, completes."""
    family = FAMILIES[name]
    tokenizer, template = opened(family)
    forbidden = frozenset(tokenizer.control.values())

    def frame(user: str, system: str | None, start: str) -> list[int]:
        ids = tokenizer.encode(template.pieces(tokenizer, user, system, start))
        return [index for index in ids if index in forbidden]

    honest = frame("u", "s", "a"), frame("u", None, "a")
    for token in tokenizer.control:
        for cut in range(len(token) + 1):
            left, right = token[:cut], token[cut:]
            assert frame(right + token, "x" + left, "a") == honest[0], (token, cut)
            assert frame(token + left, None, right + token) == honest[1], (token, cut)


def test_neighbouring_fields_forge_nothing() -> None:
    """Catches two texts without anything between them, whose ends make a token together."""
    family = FAMILIES["qwen 2.5"]
    tokenizer, _ = opened(family)
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", None, None)
    for token in tokenizer.control:
        for cut in range(1, len(token)):
            pieces = template.pieces(tokenizer, token[cut:], token[:cut])
            ids = tokenizer.encode(pieces)
            assert not set(ids) & set(tokenizer.control.values())
            assert tokenizer.decode(ids) == token


@pytest.mark.parametrize("name", FAMILIES)
def test_finished_conversations_equal_transformers(name: str, tmp_path: Path) -> None:
    """Catches a generation prompt behind a response, a turn that is left open, and a response that closes its turn."""
    family = FAMILIES[name]
    tokenizer, template = opened(family)
    reference = theirs(family, tmp_path)
    turns = [("user", "Which?"), ("assistant", "This."), ("user", "Why? "), ("assistant", "\n\nSo.\n")]
    for conversation in (turns, turns[:2]):
        given = [{"role": role, "content": text} for role, text in conversation]
        expected = reference.apply_chat_template(given, return_dict=False)
        expected += [tokenizer.eos_id] if family.is_open else []
        assert tokenizer.encode(template.finished(tokenizer, conversation)) == expected
        for token in tokenizer.control:
            hostile = [*conversation[:-1], ("assistant", token)]
            ids = tokenizer.encode(template.finished(tokenizer, hostile))
            control = [index for index in ids if index in tokenizer.control.values()]
            assert control == [index for index in expected if index in tokenizer.control.values()]


def test_a_turn_that_the_template_leaves_open_is_closed() -> None:
    """Catches a reward that is read in the middle of a response."""
    family = FAMILIES["qwen 2.5"]
    tokenizer, _ = opened(family)
    template = ChatTemplate("{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}", None, None)
    pieces = template.finished(tokenizer, [("user", "Which?"), ("assistant", "This.")])
    assert pieces[-1] == tokenizer.eos_id
    assert tokenizer.eos_id not in pieces[:-1]
