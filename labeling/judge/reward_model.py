"""Reward models, and the models that they are trained from. Imports the engine, like `judge`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import InputError, ModelError
from preftree.labeling.judge.encoding import Encoded
from preftree.labeling.judge.judge import Judge
from preftree.labeling.judge.reward_encoding import RewardEncoder
from preftree.labeling.judge.usage import ProgressCallback
from preftree.labeling.prompts.reward_input import LAYOUTS, PLAIN, Layout
from preftree.labeling.regular_file import read
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Answer, Message, Request, RequestScores, RewardRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from preftree.engine.checkpoint import Checkpoint
    from preftree.engine.engine import Engine
    from preftree.engine.planner import Planner

# The manifest of a trained model; what else is in it is said in `preftree.labeling.training.output`.
MANIFEST, KIND, COMPLETE = "preftree.json", "reward model", "complete"

_PROBE = (Message("user", "Which?"),)


def open_model(model: str, offline: bool = False) -> Checkpoint:
    """A model, see `open_checkpoint`, without reading its weights. Raises ModelError."""
    from preftree.engine.checkpoint import open_checkpoint

    return open_checkpoint(model, offline)


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


def rewards_of(directory: str, inputs: Sequence[Sequence[int]], device: str) -> NDArray[np.float32]:
    """[inputs] rewards by the model in a directory, in float32, whatever state its training is in.

    inputs: token ids, as a `RewardEncoder` makes them.
    """
    from preftree.engine.engine import Engine

    with Engine.load(directory, device=device, dtype="float32") as engine:
        return engine.reward(inputs)


@dataclass(frozen=True)
class _Training:
    """What preftree.json says of a model that `preftree train` made; of another model nothing.

    Attributes:
        layout: of its input.
        template_sha256: of all that was put around the texts in training.
        mean: of rewards on held-out responses.
        std: their standard deviation.
    """

    layout: Layout = PLAIN
    template_sha256: str | None = None
    mean: float = 0.0
    std: float | None = None

    @classmethod
    def read(cls, directory: str) -> _Training:
        """ModelError for training that is not complete, and for a file that is broken."""
        path = Path(directory) / MANIFEST
        try:
            found = json.loads(read(path))
        except OSError:
            return cls()
        except ValueError as error:
            raise ModelError(f"{path} is broken: {one_line(str(error))}") from None
        if not isinstance(found, dict) or found.get("kind") != KIND:
            return cls()
        if found.get("state") != COMPLETE:
            raise ModelError(f"model {directory} is not trained yet; finish `preftree train`")
        try:
            layout, spread = found["layout"], found["rewards"]
            made = cls(layout, str(found["template_sha256"]), float(spread["mean"]), float(spread["std"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is broken: {one_line(repr(error))}") from None
        if layout not in LAYOUTS:
            raise ModelError(f"{path} is broken: there is no layout {one_line(str(layout))}")
        return made

    def answer(self, reward: float) -> Answer:
        """The reward, and the normalised one where it is known what is normal. There are no labels to have a mass."""
        normalized = ((reward - self.mean) / self.std,) if self.std else ()
        return Answer((reward, *normalized), 1.0)


class RewardModel(Judge):
    """Scores responses with a loaded reward model. Create with `RewardModel.load`, as a `preftree.Judge`."""

    def __init__(self, checkpoint: Checkpoint, planner: Planner, engine: Engine | None, **options: Any) -> None:
        super().__init__(checkpoint, planner, engine, **options)
        self._training = _Training() if checkpoint.spec is None else _Training.read(checkpoint.spec)
        self._reward_encoder = reward_encoder(checkpoint, self._training.layout)
        expected, found = self._training.template_sha256, self._reward_encoder.template_sha256
        if expected not in (None, found):
            raise ModelError(f"model {checkpoint.name} was trained with another chat template; put that one back")

    @staticmethod
    def _check_kind(checkpoint: Checkpoint) -> None:
        if not checkpoint.config.is_reward_model:
            raise ModelError(
                f"model {checkpoint.name} is a language model, which gives no rewards; name a reward model with "
                "--model, or make one with `preftree train`"
            )

    def encode(self, request: Request) -> Encoded:
        """Token ids of what the model reads. InputError when it cannot read this, ModelError when it can read none."""
        (found,) = self.encode_all([request])
        if isinstance(found, InputError):
            raise found
        return found

    def encode_all(self, requests: Sequence[Request]) -> list[Encoded | InputError]:
        """See `Judge.encode_all`."""
        given = []
        for request in requests:
            assert isinstance(request, RewardRequest)
            self._check_principles(bool(request.principles))
            given.append((request.prompt, request.response, request.principles))
        found = self._reward_encoder.encode_all(given)
        return [ids if isinstance(ids, InputError) else Encoded(ids, []) for ids in found]

    @property
    def follows_principles(self) -> bool:
        """Whether each response is read with principles."""
        return self._training.layout != PLAIN

    def _check_principles(self, has_principles: bool) -> None:
        if has_principles and not self.follows_principles:
            raise ModelError(f"model {self.model} follows no principles; leave --under, --principles and --guard out")
        if self.follows_principles and not has_principles:
            raise ModelError(f"model {self.model} follows principles; name some with --under, --principles or --guard")

    def render(self, request: Request) -> str:
        """What the model reads as text, control tokens included."""
        return self.tokenizer.decode(self.encode(request).ids)

    def score_stream(
        self, windows: Iterable[Sequence[Encoded]], progress: ProgressCallback | None = None
    ) -> Iterator[list[RequestScores]]:
        """An answer for each request of each window, in order: see `_Training.answer`."""
        taken: deque[Sequence[Encoded]] = deque()

        def asked() -> Iterator[list[list[int]]]:
            for window in windows:
                taken.append(window)
                yield [item.ids for item in window]

        for found in self.engine.reward_stream(asked(), prefix_cache=self._prefix_cache):
            self._count(found, found.rows)
            rewards = found.reward.tolist()
            yield [
                RequestScores((self._training.answer(reward),), len(item.ids))
                for item, reward in zip(taken.popleft(), rewards, strict=True)
            ]

    def describe(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As of a judge, and what is put around the texts."""
        encoder = self._reward_encoder
        return super().describe(before) | {"layout": encoder.layout, "template_sha256": encoder.template_sha256}
