"""requests -> score -> aggregate, a window of rows at a time: what bounds the memory of a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from preftree.engine.errors import InputError
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.row import FIELDS, rejected
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.base import FillsSome, HasBeginnings, Method, NeedsFigures
from preftree.labeling.terminal import one_line
from preftree.labeling.types import ArrowType, Label, Rejected, Request, RequestScores, ResponseSet, Sample

if TYPE_CHECKING:
    from preftree.labeling.judge.encoding import Encoded
    from preftree.labeling.progress import Progress

# Rejected rows and very short prompts weigh next to nothing in tokens; this bounds a window of them.
_WINDOW_ROWS = 1024
# Where prompts begin in several ways: so many batches at most, lest Ctrl-C wait for more of them.
_WINDOW_BATCHES = 8
# The first window is this share of a whole one, and each is twice the one before: a GPU begins sooner, and has less to
# do than it takes the host to make the next window ready; on a CPU the first labels are there sooner.
FIRST_WINDOW = 1 / 8


class Waiting(NamedTuple):
    """A sample whose prompts are token ids. sample: as read. encoded: one entry a request."""

    sample: Sample
    encoded: Sequence[Encoded]


class Labelled(NamedTuple):
    """A row with its label and the scores that it was made of, or a rejected one with neither."""

    item: Sample | Rejected
    label: Label | None = None
    scores: Sequence[RequestScores] = ()

    @property
    def reason(self) -> str | None:
        return self.item.reason if isinstance(self.item, Rejected) else None


Item = Sample | Rejected
Entry = Waiting | Rejected


def windows(items: Iterable[Item], method: Method, scorer: AnyJudge) -> Iterator[list[Entry]]:
    """Rows in input order, in groups whose prompts are worth scoring together.

    A window is one batch, or several, see `HasBeginnings`. It closes before the sample that would overfill it, lest a
    forward pass be run for a few last tokens.
    """
    window: list[Entry] = []
    batches = min(method.beginnings, _WINDOW_BATCHES) if isinstance(method, HasBeginnings) else 1
    whole = scorer.window_tokens * batches
    tokens, room = 0, whole * FIRST_WINDOW
    for item in items:
        entry = encoded(item, method, scorer)
        added = scorer.unique_tokens(entry.encoded) if isinstance(entry, Waiting) else 0
        if window and (tokens + added > room or len(window) == _WINDOW_ROWS):
            yield window
            window, tokens, room = [], 0, min(2 * room, whole)
        window.append(entry)
        tokens += added
    if window:
        yield window


def label_windows(
    items: Iterable[Item],
    method: Method,
    scorer: AnyJudge,
    progress: Progress | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[list[Labelled]]:
    """Labels rows in input order, in constant memory. One that cannot be asked or answered is rejected.

    Rows may be read well ahead of those that come out. progress: receives what is begun, and what a judge
    writes before it answers. Once `stopping` says so no window is begun, and those that were begun are finished.
    """
    taken: deque[list[Entry]] = deque()

    def asked() -> Iterator[list[Encoded]]:
        for window in windows(items, method, scorer):
            if stopping():
                return
            taken.append(window)
            requests = [request for entry in window if isinstance(entry, Waiting) for request in entry.encoded]
            if progress is not None:
                rationales = (request.rationale.reasoning.n for request in requests if request.rationale)
                progress.planned(sum(isinstance(entry, Waiting) for entry in window), sum(rationales))
            yield requests

    for scores in scorer.score_stream(asked(), None if progress is None else progress.written):
        yield list(_answered(taken.popleft(), scores, method))


def label_samples(items: Iterable[Sample | Rejected], method: Method, scorer: AnyJudge) -> Iterator[Labelled]:
    """`label_windows`, row by row."""
    return chain.from_iterable(label_windows(items, method, scorer))


def _answered(window: Iterable[Entry], scores: Sequence[RequestScores], method: Method) -> Iterator[Labelled]:
    position = 0
    for entry in window:
        if isinstance(entry, Waiting):
            end = position + len(entry.encoded)
            yield aggregated(entry.sample, method, scores[position:end])
            position = end
        else:
            yield Labelled(entry)


def encoded(item: Item, method: Method, scorer: AnyJudge) -> Entry:
    """A row with the token ids of its prompts; rejected where it cannot be asked about."""
    requests = requests_of(item, method)
    if isinstance(requests, Rejected):
        return requests
    assert not isinstance(item, Rejected)
    try:
        return Waiting(item, [scorer.encode(request) for request in requests])
    except InputError as error:
        return rejected(item, one_line(str(error)))


def requests_of(item: Item, method: Method) -> Sequence[Request] | Rejected:
    """The prompts for a row, or the row, rejected: it is of a kind that the method does not take, or lacks a column."""
    if isinstance(item, Rejected):
        return item
    if not isinstance(item, method.takes):
        return rejected(item, f"wrong kind: {needs(method)}")
    try:
        return method.requests(item)
    except InputError as error:
        return rejected(item, one_line(str(error)))


def aggregated(item: Item, method: Method, scores: Sequence[RequestScores]) -> Labelled:
    """A row with the label that follows from its answers; rejected where none does."""
    if isinstance(item, Rejected):
        return Labelled(item)
    try:
        return Labelled(item, method.aggregate(item, scores), scores)
    except InputError as error:
        return Labelled(rejected(item, one_line(str(error))))


def with_figures(method: Method, rows: Iterable[Labelled]) -> Method:
    """The method that makes the final labels of these rows; their first labels are made only where it needs them."""
    if not isinstance(method, NeedsFigures):
        return method
    return method.with_figures(row.label for row in rows if row.label is not None)


def filled_columns(method: Method, found: DatasetInfo) -> Mapping[str, ArrowType]:
    """The columns in which labels of this input have values; all of the method's where it has no row to label."""
    if not isinstance(method, FillsSome):
        return method.columns
    there = [kind for kind in method.takes if FIELDS[kind] in found.first_lines]
    return method.filled(there or method.takes)


def check_kinds(found: DatasetInfo, method: Method) -> None:
    """InputError where no row of the file is of a kind that the method takes, or one has a single response to rank."""
    if ResponseSet in method.takes and found.lone_line is not None:
        raise InputError(
            f"{found.name}, {found.place(found.lone_line)}: responses has one entry; ranking needs two or more"
        )
    wanted = [FIELDS[kind] for kind in method.takes]
    if not found.first_lines or any(own in found.first_lines for own in wanted):
        return
    own, line = min(found.first_lines.items(), key=lambda entry: entry[1])
    raise InputError(f"{found.name}, {found.place(line)}: has {_responses(own)}, but {needs(method)}")


def needs(method: Method) -> str:
    """ "method rlaif needs response_a and response_b"."""
    return f"method {method.name} needs {' or '.join(_responses(FIELDS[kind]) for kind in method.takes)}"


def _responses(own: tuple[str, ...]) -> str:
    return " and ".join(name for name in own if name.startswith("response"))
