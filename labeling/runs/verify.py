"""Rows of a run judged again, to tell whether this machine gives the answers that are recorded, to the bit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import OutputError, UsageError
from preftree.labeling.answers.answers import ANSWERED, ANSWERS, LOOKS, look
from preftree.labeling.answers.digest import digest_of
from preftree.labeling.answers.entry import Entry
from preftree.labeling.data.folder import Folder, folder_of
from preftree.labeling.data.row import rejected
from preftree.labeling.data.selection import rows_of
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.candidates import SAMPLE
from preftree.labeling.options.reading import VerifyOptions
from preftree.labeling.pipeline import Item, Waiting, windows
from preftree.labeling.report.text import aligned, judge_text
from preftree.labeling.result import Result
from preftree.labeling.runs.aggregate import check_answered
from preftree.labeling.runs.comparison import Comparison
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.manifest import COMPLETE, difference, with_judge
from preftree.labeling.runs.recorded import check_format, labelled_input, read_run
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import Rejected, RequestScores

if TYPE_CHECKING:
    from preftree.labeling.judge.encoding import Encoded

# Of what a judge says of itself: with another of these it is another judge, whose answers are no repetition.
_IDENTITY = ("model_sha256", "rendering")


def verify_lines(options: VerifyOptions, judge_factory: Callable[..., AnyJudge] | None = None) -> Result:
    """Its error says so where an answer is not the one that is recorded. Raises PreftreeError."""
    from preftree.labeling.progress import Progress

    folder = folder_of(options.run)
    record = read_run(folder)
    check_format(folder, record)
    if record["method"]["name"] == SAMPLE:
        raise OutputError(f"{folder} holds responses, not labels; verify a run of `preftree label` or `preftree score`")
    model = {} if options.model is None else {"model": options.model}
    job = Job.again(record, labelled_input(record, options.input), **model)
    if options.regenerate and not record["options"].get("cot"):
        raise UsageError(f"--regenerate is for rationales, and {folder} has none")
    entries, answered = _chosen(folder, record, job, options)
    job = replace(job, rows=job.rows[job.rows.searchsorted([entry.number for entry in entries])])
    changed = _compared(folder, record, job, judge_factory or load_judge)
    judge = (judge_factory or load_judge)(job.options)
    found = Comparison()
    with Progress(len(entries), options.quiet, job.noun, is_kept=False) as progress:
        for entry, item, scores in _judged(job, entries, judge, options.regenerate):
            found.add(f"{one_line(str(entry.id))} ({job.dataset.info.place(item.line)})", entry.scores, item, scores)
            progress.advance(1)
    lines = [("verified", f"{len(entries):,} of {count(answered, 'answered row')}, {count(found.answers, 'answer')}")]
    lines += [("judge", one_line(judge_text(judge.describe()))), *([("changed", changed)] if changed else [])]
    error = ""
    if different := found.answers - found.same:
        why = f"; {changed}" if changed else ""
        error = f"{different:,} of {count(found.answers, 'answer')} of {folder} differ{why}"
    data = {"rows": len(entries), "answered_rows": answered, "changed": changed} | found.record()
    return Result([aligned(lines + found.lines())], data, error)


def _chosen(folder: Folder, record: Mapping[str, Any], job: Job, options: VerifyOptions) -> tuple[list[Entry], int]:
    """What is recorded of the rows to judge again, and how many there are to choose from."""
    for _ in range(LOOKS):
        with suppress(FileNotFoundError):  # another process has joined parts meanwhile
            answers, states = look(folder.child(ANSWERS), record["answers"], job.rows)
            if record.get("state") == COMPLETE:
                check_answered(folder, answers, job.rows)
            answered = job.rows[states == ANSWERED]
            chosen = set(answered[rows_of(len(answered), sample=options.rows, seed=options.seed)].tolist())
            entries = [entry for entry in answers.entries() if entry.number in chosen]
            break
    else:
        raise OutputError(f"cannot read {folder.child(ANSWERS)}: its files come and go; try again")
    if not entries:
        raise OutputError(f"{folder} has no answers to verify; `preftree status` says how far it is")
    written = [one for entry in entries for scores in entry.scores for one in scores.rationales]
    if not options.regenerate and any(one.ids is None for one in written):
        raise OutputError(
            f"{folder} has rationales without token ids, from an earlier preftree; --regenerate writes them again"
        )
    return entries, len(answered)


def _compared(
    folder: Folder, record: Mapping[str, Any], job: Job, judge_factory: Callable[..., AnyJudge]
) -> str | None:
    """What is not as it was when the run was made, such as the processor. OutputError for another model."""
    described = judge_factory(job.options, weights=False).describe(record["scorer"])
    then, now = ({"scorer": {name: scorer.get(name) for name in _IDENTITY}} for scorer in (record["scorer"], described))
    if said := difference(then, now):
        raise OutputError(f"{folder} was judged by another model: {said}; name the one of then with --model")
    return difference(record, with_judge(job.manifest(), described))


def _judged(
    job: Job, entries: Sequence[Entry], judge: AnyJudge, regenerate: bool
) -> Iterator[tuple[Entry, Item, Sequence[RequestScores]]]:
    """Every row with what is recorded and what is answered now: nothing about a row that cannot be asked."""
    taken: deque[list[tuple[Waiting | Rejected, Entry]]] = deque()

    def items() -> Iterator[Item]:
        for item, entry in zip(job.items(), entries, strict=True):
            if not isinstance(item, Rejected) and digest_of(item) != entry.text:
                item = rejected(item, "its answers are about another text")
            yield item

    def asked() -> Iterator[list[Encoded]]:
        recorded = iter(entries)
        for window in windows(items(), job.method, judge):
            taken.append(list(zip(window, islice(recorded, len(window)), strict=True)))
            waiting = [(row.encoded, entry) for row, entry in taken[-1] if isinstance(row, Waiting)]
            yield [one for encoded, entry in waiting for one in _with_rationales(encoded, entry, regenerate)]

    for found in judge.score_stream(asked()):
        scores = iter(found)
        for row, entry in taken.popleft():
            if isinstance(row, Rejected):
                yield entry, row, ()
            else:
                yield entry, row.sample, list(islice(scores, len(row.encoded)))


def _with_rationales(encoded: Sequence[Encoded], entry: Entry, regenerate: bool) -> Iterator[Encoded]:
    """The requests, with the recorded rationales in the place of those that would be generated."""
    for request, scores in zip(encoded, entry.scores, strict=True):
        ids = tuple(one.ids for one in scores.rationales if one.ids is not None)
        yield replace(request, written=ids) if ids and not regenerate else request
