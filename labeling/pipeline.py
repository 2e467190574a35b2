"""requests -> score -> aggregate, a window of rows at a time: what bounds the memory of a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from preftree.engine.errors import InputError, tried
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.row import FIELDS, rejected
from preftree.labeling.judge.protocol import AnyJudge, EncodesTogether
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
# Rejected rows that come first are not kept waiting for one that can be asked about: long ones take a while.
_REJECTED_ROWS = 32
# The first window is this share of a whole one, and each is twice the one before: a GPU begins sooner, and has less to
# do than it takes the host to make the next window ready; on a CPU the first labels are there sooner.
FIRST_WINDOW = 1 / 8
# Rows are encoded together that add about this share of a window, and so many at most: several threads have work then,
# and no device waits for more rows than it needs.
_TOGETHER, _ROWS_TOGETHER = 1 / 4, 32


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
    tokens, rows, asks, room = 0, 0, False, whole * FIRST_WINDOW
    for entry, added in _entries(items, method, scorer, whole * _TOGETHER):
        if rows and (tokens + added > room or rows == _WINDOW_ROWS):
            if window:
                yield window
            window, tokens, rows, asks, room = [], 0, 0, False, min(2 * room, whole)
        window.append(entry)
        tokens, rows = tokens + added, rows + 1
        asks = asks or isinstance(entry, Waiting)
        if not asks and len(window) == _REJECTED_ROWS:  # handed on early, as a part of the window that they begin
            yield window
            window = []
    if window:
        yield window


def _entries(items: Iterable[Item], method: Method, scorer: AnyJudge, tokens: float) -> Iterator[tuple[Entry, int]]:
    """Rows in input order, each with the unique tokens that it adds.

    Prompts of several rows are encoded together: of one row at first, then of so many that they add `tokens`, about.
    """
    remaining, rows = iter(items), 1
    while group := list(islice(remaining, rows)):
        total = 0.0
        for item, entry in zip(group, encoded_rows(group, method, scorer), strict=True):
            added = scorer.unique_tokens(entry.encoded) if isinstance(entry, Waiting) else 0
            # What cannot be encoded is too long, as a rule.
            total += tokens if isinstance(entry, Rejected) and not isinstance(item, Rejected) else added
            yield entry, added
        if total > tokens:
            rows = max(1, rows // 2)
        elif 2 * total <= tokens:
            rows = min(2 * rows, _ROWS_TOGETHER)


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
    (entry,) = encoded_rows([item], method, scorer)
    return entry


def encoded_rows(items: Sequence[Item], method: Method, scorer: AnyJudge) -> list[Entry]:
    """`encoded` of each, together."""
    asked = [requests_of(item, method) for item in items]
    prompts = _encoded(
        scorer, [request for requests in asked if not isinstance(requests, Rejected) for request in requests]
    )
    entries: list[Entry] = []
    position = 0
    for item, requests in zip(items, asked, strict=True):
        if isinstance(requests, Rejected):
            entries.append(requests)
            continue
        assert not isinstance(item, Rejected)
        own = prompts[position : position + len(requests)]
        position += len(requests)
        fault = next((one for one in own if isinstance(one, InputError)), None)
        good = [one for one in own if not isinstance(one, InputError)]
        entries.append(Waiting(item, good) if fault is None else rejected(item, one_line(str(fault))))
    return entries


def _encoded(scorer: AnyJudge, requests: Sequence[Request]) -> Sequence[Encoded | InputError]:
    if isinstance(scorer, EncodesTogether):
        return scorer.encode_all(requests)
    return [tried(scorer.encode, request) for request in requests]


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
