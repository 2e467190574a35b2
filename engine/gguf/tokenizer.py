"""The tokenizer inside a GGUF file."""

from typing import Any

from preftree.engine.errors import ModelError
from preftree.engine.gguf.pretokenizers import ADDS_BOS, BYTES, NORMALISED, PRE_TOKENIZERS, WHOLE_WORDS
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.sentencepiece import (
    CONTROL,
    KEEPS_SPACES,
    TRIMS,
    UNUSED,
    USER_DEFINED,
    Pieces,
    SentencePieceBackend,
)
from preftree.engine.tokenizer.tokenizer import Backend, Tokenizer


def adds_bos(metadata: dict[str, Any]) -> bool:
    """Whether a prompt begins with BOS; where unsaid, as llama.cpp has it for the kind of tokenizer."""
    said = metadata.get("tokenizer.ggml.add_bos_token")
    if said is not None:
        return said is True
    return metadata.get("tokenizer.ggml.model") == "llama" or metadata.get("tokenizer.ggml.pre") in ADDS_BOS


def read_tokenizer(metadata: dict[str, Any], bos: str | None, eos: str | None) -> Tokenizer:
    """ModelError for tokenizers that are not read."""
    model, begins = metadata.get("tokenizer.ggml.model"), adds_bos(metadata)
    backend: Backend
    if model == "llama":
        # As in llama.cpp every text gets a space in front, behind control tokens, too.
        backend = SentencePieceBackend(_pieces(metadata), {}, prefix_once=False)
    elif model == "gpt2":
        backend = JsonBackend(byte_level_json(metadata, bos if begins else None))
    else:
        raise ModelError(f"the GGUF tokenizer {model!r:.100} is not supported; preftree reads 'gpt2' and 'llama'")
    return Tokenizer(backend, bos, eos, begins)


def _pieces(metadata: dict[str, Any]) -> Pieces:
    """SentencePiece's BPE."""
    tokens, kinds = _tokens_and_types(metadata)
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or not all(isinstance(score, float) for score in scores):
        raise ModelError("tokenizer.ggml.scores is missing or no list of numbers; use another file")
    known = tuple(kind if kind in range(1, 7) else UNUSED for kind in kinds)
    spaces = TRIMS if metadata.get("tokenizer.ggml.remove_extra_whitespaces") is True else KEEPS_SPACES
    pieces = Pieces(tuple(tokens), tuple(scores), known, normalizer=spaces)
    return pieces.without_prefix() if metadata.get("tokenizer.ggml.add_space_prefix") is False else pieces


def byte_level_json(metadata: dict[str, Any], bos_token: str | None) -> dict[str, Any]:
    """A Hugging Face tokenizer.json; with `bos_token`, it puts that in front."""
    pre = metadata.get("tokenizer.ggml.pre")
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise ModelError(f"the GGUF pre-tokenizer {pre!r:.100} is not supported; preftree reads {known}")
    if metadata.get("tokenizer.ggml.add_space_prefix"):
        raise ModelError("tokenizer.ggml.add_space_prefix is not supported with the tokenizer 'gpt2'")
    tokens, kinds = _tokens_and_types(metadata)
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = [merge.split(" ") for merge in _strings(metadata, "tokenizer.ggml.merges")]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(tokens, kinds),
        "normalizer": {"type": "NFC"} if pre in NORMALISED else None,
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "post_processor": {**BYTES, "trim_offsets": False}
        if bos_token is None
        else _bos_in_front(bos_token, vocab[bos_token]),
        "decoder": BYTES,
        # No unk_token: a byte without a token (rare control characters) is dropped, as in the original.
        "model": {"type": "BPE", "vocab": vocab, "merges": merges}
        | ({"ignore_merges": True} if pre in WHOLE_WORDS else {}),
    }


def _strings(metadata: dict[str, Any], key: str) -> list[str]:
    values = metadata.get(key)
    if not isinstance(values, list) or not values or not isinstance(values[0], str):
        raise ModelError(f"the metadata {key} is missing or no list of strings; use another file")
    return values


def _tokens_and_types(metadata: dict[str, Any]) -> tuple[list[str], list[int]]:
    tokens, kinds = _strings(metadata, "tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise ModelError("tokenizer.ggml.token_type does not fit tokenizer.ggml.tokens; use another file")
    if len(set(tokens)) != len(tokens):
        raise ModelError("tokenizer.ggml.tokens holds a token twice; use another file")
    return tokens, kinds


def _added_tokens(tokens: list[str], kinds: list[int]) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": index, "content": token, **flags, "special": kind == CONTROL}
        for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
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
