"""The model that training begins with: a language model's weights, a new head for one number, and a pad token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import ModelError
from preftree.labeling.options.training import TrainOptions
from preftree.labeling.terminal import one_line

_ADDED_PAD = "<|pad|>"


@dataclass(frozen=True)
class PadToken:
    """Of a reward model: rewards are read at the last token that is none.

    Attributes:
        text: the token.
        id: its id.
        replaces: why it was added; None where it is the base's own.
    """

    text: str
    id: int
    replaces: str | None


@dataclass(frozen=True)
class BaseModel:
    """Ready for a trainer.

    Attributes:
        model: of transformers, with a random head.
        tokenizer: of transformers; texts are not encoded by it.
        pad: set in both.
        dtype: in which the weights are stored.
    """

    model: Any
    tokenizer: Any
    pad: PadToken
    dtype: Any


def load_base(options: TrainOptions, example: Sequence[int]) -> BaseModel:
    """The weights in float32, as TRL trains them. example: token ids of an input. Raises ModelError."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, set_seed

    set_seed(options.seed)  # of the head
    try:
        stored = AutoConfig.from_pretrained(options.model, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
        model = AutoModelForSequenceClassification.from_pretrained(
            options.model, num_labels=1, dtype="float32", local_files_only=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{options.model}: transformers cannot open it: {one_line(str(error))[:300]}") from None
    pad = _pad_token(tokenizer, model, example)
    model.config.pad_token_id = pad.id
    return BaseModel(model, tokenizer, pad, stored.dtype)


def lora_config(options: TrainOptions) -> Any:
    """A peft.LoraConfig; None for --full. Without modules_to_save the random head would stay as it is."""
    if options.full:
        return None
    from peft import LoraConfig

    return LoraConfig(
        task_type="SEQ_CLS",
        r=options.lora_rank,
        lora_alpha=2 * options.lora_rank,
        target_modules="all-linear",
        modules_to_save=["score"],
    )


def _pad_token(tokenizer: Any, model: Any, example: Sequence[int]) -> PadToken:
    """The base's own, or a new one where a reward would be read at another token with it."""
    ends = model.config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends]), example[-1]}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return PadToken(tokenizer.pad_token, tokenizer.pad_token_id, None)
    why = "has none" if tokenizer.pad_token_id is None else f"pads with {tokenizer.pad_token}, which ends a text"
    tokenizer.add_special_tokens({"pad_token": _ADDED_PAD})
    index = int(tokenizer.pad_token_id)
    if index >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(index + 1, mean_resizing=False)
    return PadToken(_ADDED_PAD, index, why)
