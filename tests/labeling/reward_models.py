"""Small random reward models, as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from preftree.engine.checkpoint import open_checkpoint
from preftree.labeling.judge.reward_model import reward_encoder
from tests.models import SMALL_CONFIG, write_tokenizer


def write_reward_model(directory: Path, **about: Any) -> Path:
    """A small random one, as transformers saves it. about: its preftree.json, none where there is nothing in it."""
    torch.manual_seed(5)
    small = {name: value for name, value in SMALL_CONFIG.items() if name not in ("architectures", "model_type")}
    model = LlamaForSequenceClassification(LlamaConfig(**small, id2label={0: "LABEL_0"}, pad_token_id=2))
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(directory)
    write_tokenizer(directory)
    if about:
        (directory / "preftree.json").write_text(json.dumps({"kind": "reward model", "state": "complete"} | about))
    return directory


def template_sha256(directory: Path) -> str:
    return reward_encoder(open_checkpoint(str(directory)), "instruction-first").template_sha256
