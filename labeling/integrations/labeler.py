"""Labels for batches of any engine that maps a function over a table: Ray Data, datasets, Spark, Daft."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.api import check_options
from preftree.labeling.data.columnar import Columns, columns_of
from preftree.labeling.data.columns import output_names
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.label_table import LabelTable, arrow_type
from preftree.labeling.data.layout import Layout, column_mapping, recognise_names
from preftree.labeling.data.objects import PLACE
from preftree.labeling.data.row import FIELDS, PAIR_FIELDS, SEVERAL_FIELDS, SINGLE_FIELDS, BadRow
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.calibrated import Calibrated
from preftree.labeling.methods.registry import columns_of as columns_shown
from preftree.labeling.methods.registry import depends_on_ids, name_of, open_method
from preftree.labeling.options.inputs import InputOptions
from preftree.labeling.options.methods import JudgeOptions, MethodOptions
from preftree.labeling.options.option import declared
from preftree.labeling.pipeline import Labelled, label_samples, needs, with_figures
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected, Sample

# The rows are those of the batch.
_OF_FILES = declared(InputOptions).keys() - {"mapping"}
_COMMON = ("id", "prompt", "gold")  # of rows of every kind
_OUTCOME = {"status": "string", "reason": "string"}


class PairLabeler:
    """Labels the rows of one batch after the other, with any method.

    Nothing is loaded before the first batch with a row, and a model is left behind when the labeler is pickled: it may
    go to other processes before and after it was used. Several threads may call it; it serves one at a time.

    Use large batches (1,000 to 4,000 rows) with rows of one prompt next to each other: what prompts of a batch have in
    common runs once. Labels depend on nothing but the row, so that they are those of `preftree label` however rows are
    cut into batches. Only ids are not compared: a row whose id an earlier row has is labelled like any other.
    """

    def __init__(self, model: str = "embedded", method: str | MethodOptions = "rlaif", **options: Any) -> None:
        """Check what is asked for, with all files that are named; the model is opened later.

        Args:
            model: "embedded", a Hugging Face directory, or a .gguf file, as it is called where the labeler is used.
            method: "rlaif", "salmon", "direct", "ranking", "principled" or "reward"; or one with its options, such as
                `preftree.Salmon("labelled")`.
            options: of the method as in `preftree.label`, of the model as in `preftree.Judge.load` (dtype, device,
                batch_tokens and so on), and `mapping`, which names columns, as in ("prompt=question",).

        Raises:
            UsageError: an option is unknown or out of range, or labels depend on other rows (`aggregate="scaled"`).
            InputError: a template or principles cannot be read.
        """
        if isinstance(method, MethodOptions):
            options = {**vars(method), **options}
        check_options(options, declared(JudgeOptions).keys() - _OF_FILES - {"model", "method"}, "")
        name = name_of(method) if isinstance(method, MethodOptions) else method
        self._open(JudgeOptions(**{**options, "input": PLACE, "model": model, "method": name}), None)

    def _open(self, options: JudgeOptions, recorded: Mapping[str, Any] | None) -> None:
        self._options = options
        self._mapping = column_mapping(options.mapping)
        self._method: Method = open_method(options, recorded)
        if with_figures(self._method, ()) != self._method:
            raise UsageError(f"labels of method {options.method} depend on all rows; use preftree.label or label_file")
        self._judge: AnyJudge | None = None
        self._one_call = threading.Lock()

    def __getstate__(self) -> tuple[JudgeOptions, dict[str, Any]]:
        """Options, and the texts of the files that were read: those need not be where it is unpickled."""
        return self._options, self._method.record()

    def __setstate__(self, state: tuple[JudgeOptions, dict[str, Any]]) -> None:
        self._open(*state)

    def __call__(self, batch: Any) -> Any:
        """Label a batch.

        Args:
            batch: a pyarrow.Table, a pandas DataFrame, or a dictionary of arrays or lists. Columns are recognised as
                those of a file are, by their names.

        Returns:
            A batch of the same kind with the same rows in their order: its own columns, the columns of the method,
            status ("ok" or "rejected") and reason (why a row has no label). An own column with the name of one of these
            gets "input_" in front. Names and types follow from those of the batch, see `schema`.

        Raises:
            PreftreeError: for what is no row's fault: columns that are unknown, a model that cannot be loaded.
        """
        columns = columns_of(batch)
        with self._one_call:
            labelled = list(self._labelled(columns))
        return columns.extended(self._renamed(columns.names), self._table(labelled))

    def record_batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """`__call__` for each pyarrow.RecordBatch of an iterator: what Spark's `mapInArrow` wants."""
        import pyarrow as pa

        for batch in batches:
            yield from self(pa.Table.from_batches([batch])).combine_chunks().to_batches()

    def schema(self, own: Any) -> Any:
        """The pyarrow.Schema of what comes back for batches with the schema `own`."""
        import pyarrow as pa

        names = self._renamed(own.names)
        return pa.schema([*(field.with_name(names[field.name]) for field in own), *self._added()])

    def _labelled(self, columns: Columns) -> Iterator[Labelled]:
        if not columns.length:
            return iter(())
        source = columns.source()
        layout = recognise_names(source, columns.names, self._mapping)
        self._check_columns(layout, columns.names)
        items = (
            Rejected(number, str(row)) if isinstance(row, BadRow) else self._item(layout, row, number)
            for number, row in layout.rows(source)
        )
        return label_samples(items, self._method, self._loaded())

    def _loaded(self) -> AnyJudge:
        """The judge. Raises ModelError, and InputError where a calibration was made for another judge."""
        if self._judge is None:
            judge = load_judge(self._options)
            if isinstance(self._method, Calibrated):
                self._method.check({"options": vars(self._options), "scorer": judge.describe()})
            self._judge = judge
        return self._judge

    def _item(self, layout: Layout, row: dict[str, Any], number: int) -> Sample | Rejected:
        """A row without id would be called by its place in the batch, on which labels must not depend."""
        if depends_on_ids(self._method) and row.get(layout.shape.id) is None:
            return Rejected(number, f"missing id: labels of method {self._method.name} depend on it")
        return layout.item(row, number)

    def _check_columns(self, layout: Layout, names: Sequence[str]) -> None:
        """InputError where a column is missing without which no row can be labelled."""
        present = layout.mapping.applied(layout.mapping.example(names)).keys()
        has = f"a batch has {', '.join(map(one_line, names))}"
        if not {FIELDS[kind] for kind in self._method.takes} & _kinds(layout, present):
            raise InputError(f"{has}, but {needs(self._method)}")
        if depends_on_ids(self._method) and (identity := layout.shape.id) not in present:
            raise InputError(
                f"{has}, but labels of method {self._method.name} depend on the id of a row; add a column {identity}"
            )
        if layout.shape.convert is None:  # otherwise there may be columns that it makes of others
            for shown in columns_shown(self._method):
                if shown.path[0] not in present:
                    raise InputError(f"{has}, but method {self._method.name} needs {one_line(shown.name)}")

    def _table(self, rows: Sequence[Labelled]) -> Any:
        """The columns that come to a batch. A reason does not say in which line, which would be one of the batch."""
        import pyarrow as pa

        info = DatasetInfo(PLACE, len(rows), {}, has_gold=False, first_lines={}, lone_line=None)
        made = LabelTable(info, self._method.columns).batch([(row.item, row.label) for row in rows])
        reasons = pa.array([row.reason for row in rows], pa.string())
        columns = [made.column(name) for name in (*self._method.columns, "status")]
        return pa.Table.from_arrays([*columns, reasons], schema=self._added())

    def _added(self) -> Any:
        import pyarrow as pa

        return pa.schema([(name, arrow_type(kind)) for name, kind in {**self._method.columns, **_OUTCOME}.items()])

    def _renamed(self, names: Sequence[str]) -> dict[str, str]:
        return output_names(names, reserved=[*self._method.columns, *_OUTCOME])


def _kinds(layout: Layout, present: Iterable[str]) -> set[tuple[str, ...]]:
    """The fields of the samples that rows with these columns can be."""
    if layout.shape.fields is not None:
        return {layout.shape.fields}
    ways = {
        "response_a": PAIR_FIELDS,
        "response_b": PAIR_FIELDS,
        "response": SINGLE_FIELDS,
        "responses": SEVERAL_FIELDS,
    }
    return {ways[name] for name in present if name in ways}
