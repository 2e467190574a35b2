"""The part of a judge that runs and plans use, and the loading of one from options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from preftree.engine.errors import InputError
from preftree.labeling.options.methods import ChoiceOptions
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.options.option import declared
from preftree.labeling.types import Request, RequestScores

if TYPE_CHECKING:
    from preftree.labeling.judge.encoding import Encoded
    from preftree.labeling.judge.usage import ProgressCallback, Usage


# The method that a reward model serves.
REWARD = "reward"


class AnyJudge(Protocol):
    """See `preftree.labeling.judge.judge.Judge`."""

    usage: Usage

    @property
    def window_tokens(self) -> int: ...
    def encode(self, request: Request) -> Encoded: ...
    def render(self, request: Request) -> str: ...
    def score_stream(
        self, windows: Iterable[Sequence[Encoded]], progress: ProgressCallback | None = None
    ) -> Iterator[Sequence[RequestScores]]: ...
    def traced(self, path: Path) -> AbstractContextManager[None]: ...
    def unique_tokens(self, encoded: Sequence[Encoded]) -> int: ...
    def plan(self, encoded: Sequence[Encoded]) -> Any: ...
    def describe(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]: ...


@runtime_checkable
class EncodesTogether(Protocol):
    """A judge that encodes many requests faster than one after the other."""

    def encode_all(self, requests: Sequence[Request]) -> list[Encoded | InputError]:
        """`encode` of each, or the InputError that it raises."""


def load_judge(options: ModelOptions, weights: bool = True) -> AnyJudge:
    """Loads the model; without weights only what encoding and planning need. Raises ModelError."""
    from preftree.labeling.judge.judge import Judge
    from preftree.labeling.judge.reward_model import RewardModel

    kind = RewardModel if isinstance(options, ChoiceOptions) and options.method == REWARD else Judge
    return kind.load(**{name: getattr(options, name) for name in declared(ModelOptions)}, weights=weights)
