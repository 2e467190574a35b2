"""A Hugging Face tokenizer.json from the vocabulary inside a GGUF file."""

import json
from typing import Any

from engine.errors import ModelError

CONTROL, USER_DEFINED = 3, 4  # llama.cpp's token types that a text is searched for before it is tokenised

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_SINGLE_DIGITS = {"type": "Digits", "individual_digits": True}
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _BYTES,
    "smollm": {"type": "Sequence", "pretokenizers": [_SINGLE_DIGITS, _BYTES]},
}


def tokenizer_json(metadata: dict[str, Any], bos_token: str | None) -> str:
    """Text of a tokenizer.json; with `bos_token`, it puts that in front. ModelError for other tokenizers."""
    model, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise ModelError(f"the GGUF tokenizer {model!r:.100} is not supported; preftree reads 'gpt2' only")
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise ModelError(f"the GGUF pre-tokenizer {pre!r:.100} is not supported; preftree reads {known}")
    if metadata.get("tokenizer.ggml.add_space_prefix"):
        raise ModelError("tokenizer.ggml.add_space_prefix is not supported with the tokenizer 'gpt2'")
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    vocab = {token: index for index, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise ModelError("tokenizer.ggml.tokens holds a token twice; use another file")
    merges = [merge.split(" ") for merge in _strings(metadata, "tokenizer.ggml.merges")]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": _added_tokens(metadata, tokens),
            "normalizer": None,
            "pre_tokenizer": PRE_TOKENIZERS[pre],
            "post_processor": byte_level if bos_token is None else _bos_in_front(bos_token, vocab[bos_token]),
            "decoder": _BYTES,
            # No unk_token: a byte without a token (rare control characters) is dropped, as in the original.
            "model": {"type": "BPE", "vocab": vocab, "merges": merges},
        },
        ensure_ascii=False,
    )


def _strings(metadata: dict[str, Any], key: str) -> list[str]:
    values = metadata.get(key)
    if not isinstance(values, list) or not values or not isinstance(values[0], str):
        raise ModelError(f"the metadata {key} is missing or no list of strings; use another file")
    return values


def _added_tokens(metadata: dict[str, Any], tokens: list[str]) -> list[dict[str, Any]]:
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, list) or len(types) != len(tokens):
        raise ModelError("tokenizer.ggml.token_type does not fit tokenizer.ggml.tokens; use another file")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": index, "content": token, **flags, "special": kind == CONTROL}
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]


def _bos_in_front(token: str, index: int) -> dict[str, Any]:
    bos, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    special = {token: {"id": token, "ids": [index], "tokens": [token]}}
    return {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, second],
        "special_tokens": special,
    }
