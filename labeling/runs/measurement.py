"""A few seconds of a job, run to tell how long all of it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.base import Method
from preftree.labeling.pipeline import label_windows
from preftree.labeling.terminal import count, duration
from preftree.labeling.types import Sample

Thing = TypeVar("Thing")

_SECONDS, _WINDOWS = 5.0, 2  # at least, after the first window
_KEPT = 64


@dataclass
class Spread(Generic[Thing]):
    """Some of many things, evenly spread over all that were added. Memory is bounded.

    Attributes:
        step: every so manieth is kept; 1 while all are.
    """

    step: int = 1
    _kept: list[Thing] = field(default_factory=list)
    _seen: int = 0

    def add(self, thing: Thing) -> None:
        if self._seen % self.step == 0:
            if len(self._kept) == _KEPT:
                self._kept, self.step = self._kept[::2], 2 * self.step
            self._kept.append(thing)
        self._seen += 1

    def scattered(self) -> list[Thing]:
        """In an order of which every beginning is spread over all that were added."""
        digits, number = _KEPT.bit_length() - 1, len(self._kept)
        order = sorted(range(number), key=lambda place: f"{place * _KEPT // number:0{digits}b}"[::-1])
        return [self._kept[place] for place in order]


class Point(NamedTuple):
    """What was done by then."""

    seconds: float
    rows: int = 0
    unique_tokens: int = 0
    generated_tokens: int = 0
    rationales: int = 0


@dataclass(frozen=True)
class Measurement:
    """Part of a job that was run.

    Attributes:
        begin: of what is measured.
        end: of it.
    """

    begin: Point
    end: Point

    @property
    def seconds(self) -> float:
        return self.end.seconds - self.begin.seconds

    def estimate(self, unique_tokens: int, rationales: int) -> float:
        """Seconds for so much: by rationales if there are any, since most of the time goes into their tokens."""
        if rationales:
            return self.seconds * rationales / max(1, self.end.rationales - self.begin.rationales)
        return self.seconds * unique_tokens / max(1, self.end.unique_tokens - self.begin.unique_tokens)

    def lines(self, rows: int, unique_tokens: int, rationales: int, loading: float) -> list[tuple[str, str]]:
        """For people. rows, unique_tokens, rationales: of the whole job. loading: seconds that it took."""
        seconds = self.estimate(unique_tokens, rationales)
        done = self.end.rows - self.begin.rows
        rates = [f"{(self.end.unique_tokens - self.begin.unique_tokens) / self.seconds:,.0f} unique tokens/s"]
        if rationales:
            written = self.end.generated_tokens - self.begin.generated_tokens
            rates.append(f"{written / self.seconds:,.0f} generated tokens/s")
        return [
            ("measured", f"{done:,} of {count(rows, 'row')} in {duration(self.seconds)}: {', '.join(rates)}"),
            ("time", f"about {duration(seconds)} for all rows on this machine, {rows / seconds:,.1f} rows/s"),
            ("", f"and {duration(loading)} for loading the model"),
        ]


def measure(spread: Spread[list[Sample]], method: Method, judge: AnyJudge) -> Measurement:
    """Labels samples for some seconds, as a run does, and forgets the labels.

    The first window is left out, unless these are all samples of the job: what is done but once would be taken for the
    rule, and rationales are not done before a whole one is written. Raises as `label_windows` does.
    """
    from preftree.labeling.progress import Progress

    progress = Progress(0, quiet=True)
    points = [Point(time.perf_counter())]
    for window in label_windows(chain.from_iterable(spread.scattered()), method, judge, progress):
        done = judge.usage.unique_tokens, progress.tokens, progress.rationales
        points.append(Point(time.perf_counter(), points[-1].rows + len(window), *done))
        # The first rationales end together, and so do the next.
        enough = max(_SECONDS, 2 * (points[1].seconds - points[0].seconds) if progress.rationales else 0)
        if len(points) > 1 + _WINDOWS and points[-1].seconds - points[1].seconds >= enough:
            return Measurement(points[1], points[-1])
    return Measurement(points[0 if spread.step == 1 else 1], points[-1])
