"""Labels from Python: of rows in memory, or of a file into a run directory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.columns import ColumnKinds
from preftree.labeling.data.dataset import Dataset, DatasetInfo
from preftree.labeling.data.label_table import LabelTable
from preftree.labeling.data.objects import PLACE, source_of
from preftree.labeling.data.row import FIELDS
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.calibrated import Calibrated
from preftree.labeling.methods.registry import entry_of, imitations_of, make_method, name_of
from preftree.labeling.options.methods import MethodOptions
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.options.option import declared
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.options.scaling import HardwareOptions, ScalingOptions
from preftree.labeling.pipeline import (
    Labelled,
    aggregated,
    check_kinds,
    filled_columns,
    label_samples,
    needs,
    with_figures,
)
from preftree.labeling.types import Message, Pair, Rejected, Response, ResponseSet, Sample
from preftree.labeling.values import suggestion

if TYPE_CHECKING:
    from preftree.labeling.judge.judge import Judge
    from preftree.labeling.report.text import RunSummary

# Options that a loaded judge has settled already.
_OF_THE_JUDGE = declared(ModelOptions).keys()
_OF_CLUSTERS = declared(ScalingOptions).keys() - declared(HardwareOptions).keys()


@dataclass(frozen=True)
class Labels:
    """The labels of some rows, in the order of the rows.

    Attributes:
        rows: each with `item` (the row as it was read), `label` (None if it was rejected) and `reason`.
        table: their columns, those of labels.parquet.
    """

    rows: tuple[Labelled, ...]
    table: LabelTable

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Labelled]:
        return iter(self.rows)

    def __getitem__(self, place: int) -> Labelled:
        return self.rows[place]

    def to_arrow(self) -> Any:
        """A pyarrow.Table with the columns of labels.parquet."""
        import pyarrow as pa

        return pa.Table.from_batches([self.table.batch([(row.item, row.label) for row in self.rows])])

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with the columns of labels.parquet. Needs pandas."""
        return self.to_arrow().to_pandas()


def label(rows: Any, judge: Judge | AnyJudge, method: str | MethodOptions | Method = "rlaif", **options: Any) -> Labels:
    """Label rows that Python holds.

    Args:
        rows: `preftree.Pair` objects or dictionaries, a pandas DataFrame, a pyarrow.Table or a datasets.Dataset.
            Columns are recognised as those of a file are.
        judge: a loaded `preftree.Judge`.
        method: "rlaif", "salmon", "direct", "rubric", "ranking" or "principled"; or one with its options, such as
            `preftree.Salmon("labelled")`.
        options: of a method that is named by a string: template, principles, scale, cot and so on; `mapping` names
            columns, as in ("prompt=question",).

    Raises:
        InputError: no row is of a kind that the method takes, columns are unknown, or an option is.
    """
    mapping = tuple(options.pop("mapping", ()))
    chosen = _method(method, options)
    if isinstance(chosen, Calibrated):
        asked = vars(method) if isinstance(method, MethodOptions) else options
        chosen.check({"options": asked, "scorer": judge.describe()})
    if (samples := _samples(rows)) is not None:
        if mapping:
            raise InputError(f"mapping names columns, and these rows are {type(samples[0]).__name__} objects")
        items: Iterable[Sample | Rejected] = samples
        info = _info_of(samples, chosen)
    else:
        dataset = Dataset(source_of(rows), mapping)
        info = dataset.info
        check_kinds(info, chosen)
        items = dataset.read(repeated=info.repeated)
    labelled = tuple(label_samples(items, chosen, judge))
    if (final := with_figures(chosen, labelled)) is not chosen:
        labelled = tuple(aggregated(row.item, final, row.scores) for row in labelled)
    table = LabelTable(info, chosen.columns, imitations_of(chosen), filled_columns(chosen, info))
    return Labels(labelled, table)


def label_file(
    path: str | Path | Sequence[str | Path], out: str | Path, judge: Judge | str = "embedded", **options: Any
) -> RunSummary:
    """Label files into a run directory, as `preftree label` does; an existing run of the same job is resumed.

    Args:
        path: JSONL, CSV, Parquet, Arrow, or a saved dataset; a pattern, a folder of files, a URL, or several of them.
        out: the run directory, or a URL such as s3://bucket/run; it then holds labels.parquet and run.json.
        judge: a loaded `preftree.Judge`, or the name of a model to load.
        options: as of `preftree.labeling.options.runs.LabelOptions`: method (a string, or such as `preftree.Salmon()`),
            template, principles, limit and so on; where a judge is loaded already, without device, dtype and what else
            it was loaded with.

    Raises:
        PreftreeError: whatever keeps the file from being labelled, in one line.
    """
    from preftree.labeling.runs.run import run_label

    method = options.get("method")
    if isinstance(method, MethodOptions):
        options = {**vars(method), **options, "method": name_of(method)}
    settled = {"input", "out", "worker", *_OF_CLUSTERS, *({"model"} if isinstance(judge, str) else _OF_THE_JUDGE)}
    check_options(options, declared(LabelOptions).keys() - settled, "")
    model = judge if isinstance(judge, str) else judge.model
    chosen = LabelOptions(**{"quiet": True, **options, "input": path, "out": out, "model": model})
    return run_label(chosen) if isinstance(judge, str) else run_label(chosen, lambda _, weights=True: judge)


def _method(method: str | MethodOptions | Method, options: Mapping[str, Any]) -> Method:
    if isinstance(method, str):
        kind = entry_of(method).options
        check_options(options, declared(kind).keys(), f" for method {method}")
        return make_method(method, kind(**options))
    if options:
        raise UsageError(f"{', '.join(options)}: options belong to a method that is named, not to an object")
    return make_method(name_of(method), method) if isinstance(method, MethodOptions) else method


def check_options(given: Iterable[str], known: Collection[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise UsageError(f"there is no option {name!r}{where}; {suggestion(name, sorted(known))}")


def _samples(rows: Any) -> list[Sample] | None:
    """Rows that are samples already, None for anything else."""
    kinds = (Pair, Response, ResponseSet)
    if isinstance(rows, list | tuple) and rows and all(isinstance(row, kinds) for row in rows):
        return [_with_messages(row) for row in rows]
    return None


def _with_messages(sample: Sample) -> Sample:
    """A prompt that is a string is one message of the user's, as in files."""
    prompt: Any = sample.prompt
    return sample._replace(prompt=(Message("user", prompt),)) if isinstance(prompt, str) else sample


def _info_of(samples: list[Sample], method: Method) -> DatasetInfo:
    if not any(isinstance(sample, method.takes) for sample in samples):
        raise InputError(f"no row can be labelled: {needs(method)}")
    kinds = ColumnKinds()
    for sample in samples:
        kinds.add(sample.extra)
    has_gold = any(getattr(sample, "gold", None) is not None for sample in samples)
    first_lines = {FIELDS[kind]: 1 for kind in {type(sample) for sample in samples}}
    return DatasetInfo(PLACE, len(samples), kinds.resolve(), has_gold, first_lines, lone_line=None)
