"""Reward models, and the models that they are trained from. Imports the engine, like `judge`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from preftree.engine.errors import InputError, ModelError
from preftree.labeling.judge.reward_encoding import RewardEncoder
from preftree.labeling.prompts.reward_input import PLAIN, Layout
from preftree.labeling.types import Message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from preftree.engine.checkpoint import Checkpoint
    from preftree.engine.engine import Engine

_PROBE = (Message("user", "Which?"),)


def open_model(directory: str) -> Checkpoint:
    """A model directory, without reading its weights. Raises ModelError."""
    from preftree.engine.checkpoint import open_checkpoint

    return open_checkpoint(directory)


def reward_encoder(checkpoint: Checkpoint, layout: Layout = PLAIN, max_tokens: int | None = None) -> RewardEncoder:
    """max_tokens: where it is less than the model's context. ModelError where there is no chat template that works."""
    chat, tokenizer = checkpoint.chat_template, checkpoint.tokenizer
    if chat is None:
        raise ModelError(
            f"model {checkpoint.name} has no chat template, which says where a response begins and ends; take an "
            "instruct model, or put a chat_template.jinja into its directory"
        )
    context = checkpoint.config.max_context
    longest = context if max_tokens is None else min(context, max_tokens)
    encoder = RewardEncoder(tokenizer, partial(chat.finished, tokenizer), chat.source, layout, longest)
    try:
        chat.finished(tokenizer, (*_PROBE, Message("assistant", "This.")))
    except (InputError, ModelError) as error:
        reason = str(error).partition(";")[0]
        raise ModelError(f"model {checkpoint.name}: {reason}; take another model, or mend its template") from None
    return encoder


class RewardModel:
    """A loaded reward model: a number for each input. A context manager."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def load(cls, directory: str, *, device: str | None = None, dtype: str | None = None) -> RewardModel:
        """See `preftree.Engine.load`."""
        from preftree.engine.engine import Engine

        return cls(Engine.load(directory, device=device, dtype=dtype))

    def rewards(self, inputs: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """[inputs] rewards, of token ids as a `RewardEncoder` makes them."""
        return self._engine.reward(inputs)

    def __enter__(self) -> RewardModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()
