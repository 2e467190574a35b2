"""The base's tokenizer and chat template beside a reward model: the very files, with the pad token in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from preftree.labeling.training.base_model import PadToken

_COPIED = (
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.jinja", "vocab.json", "merges.txt", "vocab.txt"),
)


def copy_tokenizer(base: Path, out: Path, pad: PadToken) -> None:
    """Raises OSError."""
    for name in _COPIED:
        if (base / name).is_file():
            shutil.copyfile(base / name, out / name)
    if pad.replaces is None:
        return
    settings = _read(out / "tokenizer_config.json") | {"pad_token": pad.text}
    tokenizer = out / "tokenizer.json"
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    entry = {"content": pad.text, **flags}
    if tokenizer.exists():
        data = _read(tokenizer)
        data["added_tokens"] = _with_token(data.get("added_tokens") or [], {"id": pad.id, **entry})
        _write(tokenizer, data)
    if "added_tokens_decoder" in settings or not tokenizer.exists():
        settings["added_tokens_decoder"] = settings.get("added_tokens_decoder", {}) | {str(pad.id): entry}
    _write(out / "tokenizer_config.json", settings)
    if (special := out / "special_tokens_map.json").exists():
        _write(special, _read(special) | {"pad_token": pad.text})


def _with_token(tokens: list[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    return tokens if any(token["id"] == new["id"] for token in tokens) else [*tokens, new]


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding="utf-8")
