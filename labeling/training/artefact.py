"""A trained reward model as a directory that transformers, its trainers and servers open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preftree.engine.errors import ModelError, OutputError
from preftree.labeling.judge.reward_model import rewards_of
from preftree.labeling.training.base_model import BaseModel
from preftree.labeling.training.rows import Rows
from preftree.labeling.training.tokenizer_files import copy_tokenizer

ADAPTER = "adapter"
_TOLERANCE = 1e-4
_COMPARED = 16


def save_model(trained: Any, base: BaseModel, source: Path, out: Path, dtype: str) -> Any:
    """Merged weights, head and tokenizer; an adapter stays beside them. Returns what was saved. Raises OutputError."""
    import torch

    try:
        if hasattr(trained, "merge_and_unload"):
            trained.save_pretrained(str(out / ADAPTER), save_embedding_layers=False)
            trained = trained.merge_and_unload()
        stored = base.dtype if dtype == "auto" else getattr(torch, dtype)
        trained.to(stored or torch.float32)
        trained.config.pad_token_id = base.pad.id
        trained.config.use_cache = True  # the trainer has turned it off
        trained.save_pretrained(str(out))
        copy_tokenizer(source, out, base.pad)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    return trained


def verified_rewards(directory: Path, trained: Any, rows: Rows, device: str) -> NDArray[np.float32]:
    """Rewards of `rows.texts()` by preftree's engine, read from the directory in float32.

    trained: the model that was saved there. ModelError where it gives other rewards for the first pairs, or
    transformers reads others from the directory: a head that was not saved, or a pad token that is read.
    """
    from transformers import AutoModelForSequenceClassification

    texts = rows.texts()
    compared = texts[: 2 * _COMPARED]
    read = AutoModelForSequenceClassification.from_pretrained(str(directory), dtype="float32", local_files_only=True)
    every = {"the trained model has": trained, "transformers reads": read}
    found = {name: _rewards(theirs, compared, device) for name, theirs in every.items()}
    rewards = rewards_of(str(directory), texts, device)
    for name, expected in found.items():
        gap = float(abs(rewards[: len(compared)] - expected).max())
        # Relative where rewards are large: float32 has seven digits.
        if not gap <= _TOLERANCE * max(1.0, float(abs(expected).max())):
            raise ModelError(
                f"{directory}: {name} other rewards than preftree reads from it, by {gap:.2g}; do not use it"
            )
    return rewards


def _rewards(model: Any, texts: Sequence[list[int]], device: str) -> NDArray[np.float32]:
    """By transformers, padded two by two as in training. The model is on the CPU then: the next one needs room."""
    import torch

    model = model.to(device=device, dtype=torch.float32).eval()
    found = []
    for both in zip(texts[::2], texts[1::2], strict=True):
        longest = max(map(len, both))
        ids = torch.full((2, longest), model.config.pad_token_id)
        for row, text in zip(ids, both, strict=True):
            row[: len(text)] = torch.tensor(text)
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in both])
        with torch.inference_mode():
            logits = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        found.append(logits.squeeze(-1).cpu().numpy())
    model.to("cpu")
    if device != "cpu":
        torch.cuda.empty_cache()
    return np.concatenate(found)
