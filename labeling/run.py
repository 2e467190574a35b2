"""read -> requests -> score -> aggregate -> write, a window of pairs at a time."""

from __future__ import annotations

import platform
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import InputError
from labeling.data.reader import Survey, read, rejected, sha256_of, survey
from labeling.data.row import FIELDS
from labeling.data.writer import LABELS, RUN, LabelWriter, check_out_dir, check_out_file
from labeling.display import Progress, count, one_line
from labeling.methods.base import Method
from labeling.methods.registry import open_method
from labeling.options import JudgeOptions, LabelOptions
from labeling.quality.subsets import BySubset, check_subset
from labeling.report import Rejections, RunSummary
from labeling.types import Label, Pair, Rejected, RequestScores, Sample, ScoreRequest, Several

if TYPE_CHECKING:
    from labeling.encoding import Encoded
    from labeling.scorer import Usage, Written

# Rejected rows and very short prompts weigh next to nothing in tokens; this bounds a window of them.
_WINDOW_ROWS = 1024


class Judge(Protocol):
    """The part of `labeling.scorer.Scorer` that a run uses."""

    usage: Usage

    @property
    def window_tokens(self) -> int: ...
    def encode(self, request: ScoreRequest) -> Encoded: ...
    def render(self, request: ScoreRequest) -> str: ...
    def score_stream(
        self, windows: Iterable[Sequence[Encoded]], progress: Written | None = None
    ) -> Iterator[Sequence[RequestScores]]: ...
    def traced(self, path: Path) -> AbstractContextManager[None]: ...
    def unique_tokens(self, encoded: Sequence[Encoded]) -> int: ...
    def plan(self, encoded: Sequence[Encoded]) -> Any: ...
    def describe(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Waiting:
    """A sample whose prompts are token ids. sample: as read. encoded: one entry a request."""

    sample: Sample
    encoded: Sequence[Encoded]


@dataclass(frozen=True)
class Labelled:
    """A row with its label, or a rejected one with none."""

    item: Sample | Rejected
    label: Label | None = None

    @property
    def reason(self) -> str | None:
        return self.item.reason if isinstance(self.item, Rejected) else None


def open_scorer(options: JudgeOptions, weights: bool = True) -> Judge:
    """Loads the model; without weights only what encoding and planning need. Raises ModelError."""
    from labeling.scorer import Scorer

    return Scorer.open(
        options.model,
        device=options.device,
        dtype=options.dtype,
        batch_tokens=options.batch_tokens,
        prefix_cache=options.prefix_cache,
        rendering=options.rendering,
        weights=weights,
    )


def windows(items: Iterable[Sample | Rejected], method: Method, scorer: Judge) -> Iterator[list[Waiting | Rejected]]:
    """Rows in input order, in groups whose prompts are worth scoring together: what bounds a run's memory.

    A window closes before the sample that would overfill it, lest a forward pass be run for a few last tokens.
    """
    window: list[Waiting | Rejected] = []
    tokens = 0
    for item in items:
        entry = _encode(item, method, scorer)
        added = scorer.unique_tokens(entry.encoded) if isinstance(entry, Waiting) else 0
        if window and (tokens + added > scorer.window_tokens or len(window) == _WINDOW_ROWS):
            yield window
            window, tokens = [], 0
        window.append(entry)
        tokens += added
    if window:
        yield window


def label_samples(
    items: Iterable[Sample | Rejected], method: Method, scorer: Judge, progress: Written | None = None
) -> Iterator[Labelled]:
    """Labels rows in input order, in constant memory. One that cannot be asked or answered is rejected.

    Rows may be read well ahead of those that come out. progress: hears of what a judge writes before it answers.
    """
    taken: deque[list[Waiting | Rejected]] = deque()

    def asked() -> Iterator[list[Encoded]]:
        for window in windows(items, method, scorer):
            taken.append(window)
            yield [request for entry in window if isinstance(entry, Waiting) for request in entry.encoded]

    for scores in scorer.score_stream(asked(), progress):
        position = 0
        for entry in taken.popleft():
            if isinstance(entry, Rejected):
                yield Labelled(entry)
                continue
            end = position + len(entry.encoded)
            yield _aggregate(entry.sample, method, scores[position:end])
            position = end


def run_label(
    options: LabelOptions,
    scorer_factory: Callable[..., Judge] | None = None,
    method_factory: Callable[..., Method] | None = None,
) -> RunSummary:
    """Labels a file into a directory. Raises PreftreeError; then nothing was written.

    Everything that is cheap to find wrong is looked at before the model is loaded.
    """
    source, out_dir = Path(options.input), Path(options.out)
    check_out_dir(out_dir, options.overwrite)
    if options.profile is not None:
        check_out_file(Path(options.profile), options.overwrite)
    method = (method_factory or open_method)(options)
    found = survey(source)
    check_kinds(found, method)
    if options.subset is not None:
        check_subset(found, method.columns, options.subset)
    total = found.rows if options.limit is None else min(found.rows, options.limit)
    with LabelWriter(out_dir, found, method.columns, options.overwrite) as writer:
        if not options.quiet:
            print(
                f"{count(total, 'row')} of {one_line(str(source))}; loading {one_line(options.model)}", file=sys.stderr
            )
        scorer = (scorer_factory or open_scorer)(options)
        with nullcontext() if options.profile is None else scorer.traced(Path(options.profile)):
            summary = _label_rows(options, total, method, scorer, writer)
        if sha256_of(source) != found.sha256:
            raise InputError(f"{source} changed while it was being labelled; label it again")
        writer.publish(_record(options, found, method, scorer, summary))
    return summary


def check_kinds(found: Survey, method: Method) -> None:
    """InputError where no row of the file is of a kind that the method takes, or one has a single response to rank."""
    if Several in method.takes and found.lone_line is not None:
        raise InputError(f"{found.path}, line {found.lone_line}: responses has one entry; ranking needs two or more")
    wanted = [FIELDS[kind] for kind in method.takes]
    if not found.first_lines or any(own in found.first_lines for own in wanted):
        return
    own, line = min(found.first_lines.items(), key=lambda entry: entry[1])
    raise InputError(f"{found.path}, line {line}: has {_responses(own)}, but {_needs(method)}")


def _needs(method: Method) -> str:
    return f"method {method.name} needs {' or '.join(_responses(FIELDS[kind]) for kind in method.takes)}"


def _responses(own: tuple[str, ...]) -> str:
    return " and ".join(name for name in own if name.startswith("response"))


def _label_rows(options: LabelOptions, total: int, method: Method, scorer: Judge, writer: LabelWriter) -> RunSummary:
    quality, rejections, ok = method.quality(), Rejections(), 0
    if options.subset is not None:
        quality = BySubset(quality, options.subset)
    noun = "pair" if method.takes == (Pair,) else "row"
    with Progress(total, options.quiet, noun) as progress:
        for labelled in label_samples(read(options.input, options.limit), method, scorer, progress.written):
            item, label = labelled.item, labelled.label
            writer.add(item, label)
            if isinstance(item, Rejected):
                rejections.add(item.line, item.reason)
            elif label is not None:
                quality.add(item, label)
                ok += 1
            progress.advance()
    usage = scorer.usage
    return RunSummary(
        labels=writer.out_dir / LABELS,
        run=writer.out_dir / RUN,
        judge=_judge(scorer.describe()),
        noun=noun,
        ok=ok,
        quality=quality,
        rejections=rejections,
        prompt_tokens=usage.prompt_tokens,
        unique_tokens=usage.unique_tokens,
        seconds=usage.seconds,
        generated_tokens=usage.generated_tokens,
        rationales=usage.rationales,
        cut_rationales=usage.cut_rationales,
    )


def _record(options: LabelOptions, found: Survey, method: Method, scorer: Judge, summary: RunSummary) -> dict[str, Any]:
    """run.json: all that it takes to make these labels again, and to see what was asked."""
    judge = scorer.describe()
    own = {"preftree": version(), "python": platform.python_version(), "pyarrow": metadata.version("pyarrow")}
    return {
        "versions": own | judge.get("versions", {}),
        "input": {"path": str(found.path.absolute()), "sha256": found.sha256, "rows": found.rows},
        "method": {"name": method.name, **method.record()},
        "scorer": {name: value for name, value in judge.items() if name != "versions"},
        "settings": asdict(options),
        "totals": summary.totals(),
        "quality": summary.quality.figures(),
    }


def _judge(described: dict[str, Any]) -> str:
    device = described.get("device_name") or described.get("device")
    return ", ".join(str(part) for part in (described["model"], device, described.get("dtype")) if part)


def version() -> str:
    try:
        return metadata.version("preftree")
    except metadata.PackageNotFoundError:
        return "not installed"


def _encode(item: Sample | Rejected, method: Method, scorer: Judge) -> Waiting | Rejected:
    if isinstance(item, Rejected):
        return item
    if not isinstance(item, method.takes):
        return rejected(item, f"wrong kind: {_needs(method)}")
    try:
        return Waiting(item, [scorer.encode(request) for request in method.requests(item)])
    except InputError as error:
        return rejected(item, one_line(str(error)))


def _aggregate(sample: Sample, method: Method, scores: Sequence[RequestScores]) -> Labelled:
    try:
        return Labelled(sample, method.aggregate(sample, scores))
    except InputError as error:
        return Labelled(rejected(sample, one_line(str(error))))
