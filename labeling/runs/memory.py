"""A judge that is not there: for runs whose rows are all remembered, so that no model need be loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from preftree.engine.errors import OutputError
from preftree.labeling.types import RequestScores, ScoreRequest

if TYPE_CHECKING:
    from preftree.labeling.judge.encoding import Encoded
    from preftree.labeling.judge.judge import ProgressCallback


class Memory:
    """Answers nothing. described: what the judge that answered then said of itself."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        from preftree.labeling.judge.judge import Usage

        self.usage = Usage()
        self._described = dict(described)

    @property
    def window_tokens(self) -> int:
        return 1

    def encode(self, request: ScoreRequest) -> NoReturn:
        """Raises OutputError: nobody can be asked."""
        raise OutputError("the journal lacks a row of the input; label the input again with --overwrite")

    def render(self, request: ScoreRequest) -> NoReturn:
        self.encode(request)

    def score_stream(
        self, windows: Iterable[Sequence[Encoded]], progress: ProgressCallback | None = None
    ) -> Iterator[list[RequestScores]]:
        for _ in windows:
            yield []

    @contextmanager
    def traced(self, path: Path) -> Iterator[None]:
        """Nothing runs, so nothing is written."""
        yield

    def unique_tokens(self, encoded: Sequence[Encoded]) -> int:
        return 0

    def plan(self, encoded: Sequence[Encoded]) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return self._described
