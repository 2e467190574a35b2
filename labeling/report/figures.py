"""All figures of labels, as a query over the columns of labels.parquet; the labels may come from elsewhere.

Which figures there are follows from the columns: probabilities of pairs in both orders, scores by principle, scores of
single responses, those by rubrics, rankings, labels under sets of principles; each with gold or without. A file is read
a piece at a time, and of nested columns only what figures are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError, PreftreeError
from preftree.labeling.data.columns import IMITATES, UNCALIBRATED, names_of_labels
from preftree.labeling.report import pairs, panels, principles, probes, rankings, reward_figures, rubrics, scores, sets
from preftree.labeling.report.arrays import column, is_list_of, is_numbers
from preftree.labeling.report.benchmarks import benchmark
from preftree.labeling.report.benchmarks.known import benchmarks_of
from preftree.labeling.report.subsets import Section, Subsets
from preftree.labeling.terminal import count, one_line
from preftree.labeling.values import known_names

_PAIR_COLUMNS = ("p_a", UNCALIBRATED, "verdict", *(name for names in pairs.NEEDS for name in names))
_TEXTS = ("response_a", "response_b")
_BATCH_ROWS = 1 << 16
_BATCH_VALUES = 1 << 20
_NEEDED = (
    "pairs need p_a or verdict, principles need principles (name, s12, s21), responses need score or score_a and "
    "score_b, rankings need win_matrix, sets of principles need sets (set and p_a or score)"
)


class Figures:
    """Figures of the record batches that are added, which have the columns of labels.parquet.

    Attributes:
        rows: labelled rows so far.
        rejected: rows without a label so far.
    """

    def __init__(self, schema: Any, subset: str | None = None, name: str = "the table") -> None:
        """Choose the figures.

        Args:
            schema: of the batches to come (pyarrow).
            subset: a column; there are figures for each of its values, too.
            name: of the labels, for messages.

        Raises:
            InputError: the columns are no labels, or there is no column `subset`. The message names what is missing.
        """
        self.rows = self.rejected = self._imitating = 0
        section, self.reads = _section(schema, name)
        self._name = name
        self._section: Section = section()
        self._missing = _missing(schema, self._section)
        self._benchmarks = benchmarks_of(schema)
        self.reads |= {name: () for one in self._benchmarks for name in one.READS}
        self.reads |= {"status": (), "gold": (), IMITATES: ()} | ({subset: ()} if subset is not None else {})
        if subset is not None and schema.get_field_index(subset) < 0:
            raise InputError(
                f"{name} has no column {one_line(subset)}; it has {one_line(known_names(subset, schema.names))}"
            )
        self._subsets = None if subset is None else Subsets(subset, section)

    def add(self, batch: Any) -> None:
        """Rows in the order of the file. InputError for a column that holds what it cannot."""
        labelled = _labelled(batch)
        self.rows += len(labelled)
        self.rejected += len(batch) - len(labelled)
        self._imitating += _true(column(labelled, IMITATES))
        try:
            self._section.add(labelled)
            for one in self._benchmarks:
                one.add(labelled)
            if self._subsets is not None:
                self._subsets.add(labelled)
        except InputError as error:
            raise InputError(f"{self._name}: {error}") from None

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        subsets = {} if self._subsets is None else {"subsets": self._subsets.figures()}
        imitating = {"imitating": self._imitating} if self._imitating else {}
        scored = {} if (found := self._benchmark()) is None else {"benchmark": found}
        return self._section.figures() | imitating | scored | subsets

    def _benchmark(self) -> dict[str, Any] | None:
        """Figures of the benchmark that the labels are of, if any."""
        return next((found for one in self._benchmarks if (found := one.figures()) is not None), None)

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: name and text; figures that have nothing to stand on are left out."""
        subsets = [] if self._subsets is None else self._subsets.lines()
        missing = [("missing", text) for text in self._missing]
        scored = [] if (found := self._benchmark()) is None else benchmark.lines(found)
        return scored + self._section.lines() + self._of_imitations() + subsets + missing

    def _of_imitations(self) -> list[tuple[str, str]]:
        if not self._imitating:
            return []
        rows = f"{count(self._imitating, 'row')} of {self.rows:,}"
        return [("imitations", f"lines of the template in the texts of {rows} ({IMITATES}); see --fence")]

    def counted(self) -> str:
        """ "20 rows labelled, 1 row rejected"."""
        rejected = f", {count(self.rejected, 'row')} rejected" if self.rejected else ""
        return f"{count(self.rows, 'row')} labelled{rejected}"


def figures_of(path: str | Path, subset: str | None = None) -> Figures:
    """The figures of a labels.parquet, or of a file with the same columns.

    Args:
        path: the file.
        subset: a column of it; there are figures for each of its values, too.

    Raises:
        InputError: it holds no labels, or there is no column `subset`.
        OutputError: it cannot be read.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path, pre_buffer=False) as file:
            figures = Figures(file.schema_arrow, subset, str(path))
            for batch in _batches(file, figures.reads):
                figures.add(batch)
    except PreftreeError:
        raise
    except FileNotFoundError:
        raise OutputError(f"no such file: {path}; label the input first") from None
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot read {path}: {one_line(str(error))}") from error
    return figures


def _batches(file: Any, reads: dict[str, tuple[str, ...]]) -> Iterator[Any]:
    """The columns by name, of nested ones the fields; so few rows at a time that their values are small."""
    paths = [file.schema.column(index).path for index in range(len(file.schema))]
    chosen = [index for index, path in enumerate(paths) if _is_read(path, reads)]
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    values = sum(group.column(index).num_values for group in groups for index in chosen)
    rows = max(1, min(_BATCH_ROWS, _BATCH_VALUES * file.metadata.num_rows // max(1, values)))
    yield from file.iter_batches(rows, columns=[paths[index] for index in chosen])


def _is_read(path: str, reads: dict[str, tuple[str, ...]]) -> bool:
    if path in reads:
        return True
    top, *inner = path.split(".")
    return top in reads and (not reads[top] or (bool(inner) and inner[-1] in reads[top]))


def _labelled(batch: Any) -> Any:
    """The rows without those that were rejected."""
    from pyarrow import compute

    status = column(batch, "status")
    if status is None:
        return batch
    return batch.filter(compute.not_equal(status.cast("string"), "rejected").fill_null(True))


def _true(values: Any) -> int:
    """How many are."""
    from pyarrow import compute, types

    return int(compute.sum(values).as_py() or 0) if values is not None and types.is_boolean(values.type) else 0


def _section(schema: Any, name: str) -> tuple[Callable[[], Section], dict[str, tuple[str, ...]]]:
    """What makes the figures, and the columns that they are made of with the fields of nested ones.

    Lists come first: an input's own columns pass through into labels.parquet, but never as lists.
    """
    kinds = {field.name: field.type for field in schema if schema.get_field_index(field.name) >= 0}
    of_lengths: dict[str, tuple[str, ...]] = dict.fromkeys((pairs.LENGTHS,) if pairs.LENGTHS in kinds else _TEXTS, ())
    of_pairs = dict.fromkeys(_PAIR_COLUMNS, ()) | of_lengths
    if is_list_of(kinds.get("principles"), "name", "s12", "s21"):
        return principles.PrincipleFigures, {
            "p_a": (),
            UNCALIBRATED: (),
            "verdict": (),
            "decided_by": (),
            "principles": principles.FIELDS,
            **of_lengths,
        }
    if any(is_list_of(kinds.get("sets"), "set", kind) for kind in ("p_a", "score", "reward", "rewards")):
        return sets.SetFigures, {"sets": sets.FIELDS, **of_lengths}
    if is_list_of(kinds.get("judges"), *panels.FIELDS):
        return panels.PanelFigures, of_pairs | {"judges": panels.FIELDS, panels.DISAGREEMENT: ()}
    if is_list_of(kinds.get("probes"), *probes.FIELDS):
        return probes.ProbeFigures, of_pairs | {"id": (), "probes": probes.FIELDS}
    if is_numbers(kinds.get("win_matrix"), 2):
        return rankings.RankingFigures, dict.fromkeys((*rankings.MATRICES, pairs.LENGTHS), ())
    if reward_figures.are_rewards({name: kinds[name] for name in names_of_labels([*kinds])}):
        return reward_figures.RewardFigures, of_pairs | dict.fromkeys(reward_figures.FIELDS, ())
    named = ("verdict", *(f"{one}{end}" for end in scores.ENDS for one in (*scores.FIELDS, "distribution")))
    of_scores = dict.fromkeys(named, ()) | of_lengths
    criteria = [f"criteria{end}" for end in scores.ENDS]
    if any(is_list_of(kinds.get(name), "name", "p_yes") for name in criteria):
        return rubrics.RubricFigures, of_scores | dict.fromkeys(criteria, rubrics.FIELDS) | {rubrics.WEIGHTED: ()}
    if any(is_numbers(kinds.get(f"distribution{end}"), 1) for end in scores.ENDS):
        return scores.ScoreFigures, of_scores
    if is_numbers(kinds.get("p_a")):
        return pairs.PairFigures, of_pairs
    if is_numbers(kinds.get("score")) or all(is_numbers(kinds.get(f"score{end}")) for end in scores.ENDS[1:]):
        return scores.ScoreFigures, of_scores
    if "verdict" in kinds:
        return pairs.PairFigures, of_pairs
    has = ", ".join(map(one_line, schema.names)) or "no columns"
    raise InputError(f"{name} holds no labels that figures can be made of: {_NEEDED}; it has {has}")


def _missing(schema: Any, section: Section) -> list[str]:
    """Figures of pairs that cannot be made, and the columns that they need."""
    if not isinstance(section, pairs.PairFigures):
        return []
    there = {*schema.names}
    if {*_TEXTS} <= there:
        there.add(pairs.LENGTHS)
    return [
        f"{figure} needs {' and '.join(name for name in names if name not in there)}"
        for names, figure in pairs.NEEDS.items()
        if not {*names} <= there
    ]
