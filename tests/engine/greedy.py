"""What transformers would have said."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch


@lru_cache(maxsize=1)
def load(directory: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def transformers_choices(directory: Path, prompt: list[int], ids: list[int]) -> list[int]:
    """The most probable token behind `prompt` and behind each of `ids`, in one pass.

    Where all but the last equal `ids`, those are transformers' greedy text: its first token is, and if all before one
    are, so is that one. The last is what it would have said next.
    """
    with torch.inference_mode():
        logits = load(directory)(torch.tensor([prompt + ids]), logits_to_keep=len(ids) + 1).logits[0]
    choices: list[int] = logits.argmax(-1).tolist()
    return choices
