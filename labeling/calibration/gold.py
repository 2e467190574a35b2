"""What people say of the pairs that a judge has labelled: its probabilities beside gold, read in one place."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from preftree.engine.errors import InputError, OutputError
from preftree.labeling.calibration.label_studio import is_annotated, majority, votes_of
from preftree.labeling.data.columns import UNCALIBRATED
from preftree.labeling.data.formats import open_source
from preftree.labeling.data.inputs import files_of
from preftree.labeling.data.row import BadRow, gold_of, identity_of, quoted
from preftree.labeling.report.agreement import decided
from preftree.labeling.report.arrays import NONE, TIE, A, B, Choices, Floats, Mask, choices, known, probabilities
from preftree.labeling.report.subsets import value_texts
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import Verdict
from preftree.labeling.values import known_names

_CODES: dict[Verdict | None, int] = {"a": A, "tie": TIE, "b": B, None: NONE}
_NAMED = 3


@dataclass(frozen=True)
class GoldPairs:
    """Labelled pairs whose gold is A or B, in the order of the labels.

    Attributes:
        ids: of each; the number of its row, from 0, where labels have no ids.
        p_a: what the judge said, before any calibration.
        gold_is_a: what people said.
        subset: the value of a column, as text; None where none was asked for.
        ties: pairs that were left out because gold is a tie.
        unlabelled: pairs that were left out because they have gold and no p_a.
        unknown: ids of a gold file that the labels do not have.
        others: p_a of the other labelled pairs, as the judge said it, those with gold ties among them.
    """

    ids: tuple[str, ...]
    p_a: Floats
    gold_is_a: Mask
    subset: tuple[str, ...] | None = None
    ties: int = 0
    unlabelled: int = 0
    unknown: tuple[str, ...] = ()
    others: Floats = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.ids)

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: how many there are, and what was left out."""
        lines = [("gold pairs", f"{len(self):,}")]
        if self.ties:
            lines.append(("left out", f"{count(self.ties, 'pair')} whose gold is a tie"))
        if self.unlabelled:
            lines.append(("left out", f"{count(self.unlabelled, 'pair')} with gold and without p_a"))
        if self.unknown:
            named = ", ".join(map(one_line, self.unknown[:_NAMED])) + (", ..." if self.unknown[_NAMED:] else "")
            lines.append(("unknown", f"{count(len(self.unknown), 'id')} of the gold file not in the labels: {named}"))
        if len(self) and len({*self.gold_is_a.tolist()}) == 1:
            side = "a" if self.gold_is_a[0] else "b"
            lines.append(
                ("warning", f"gold is always {side}: in labels of one order, a lean to that place would look right")
            )
        return lines


def gold_pairs(labels: Path, gold_file: str | None = None, subset: str | None = None) -> GoldPairs:
    """The pairs of a labels.parquet that have gold.

    Args:
        labels: a labels.parquet, or a file from elsewhere with p_a and, unless `gold_file` is named, gold.
        gold_file: see `read_gold`; None for the column gold of `labels`.
        subset: a column of `labels` whose values are wanted, too.

    Raises:
        InputError: a column or all gold is missing, or there is something else in it.
        OutputError: `labels` cannot be read.
    """
    table = _table(labels, gold_file, subset)
    names = table.column_names
    p_a = probabilities(table.column(UNCALIBRATED if UNCALIBRATED in names else "p_a").combine_chunks(), "p_a")
    ids = list(map(str, table.column("id").to_pylist() if "id" in names else range(len(p_a))))
    unknown: tuple[str, ...] = ()
    if gold_file is None:
        gold = choices(table.column("gold").combine_chunks())
    else:
        verdicts = read_gold(gold_file)
        there = {*ids}
        unknown = tuple(name for name in verdicts if name not in there)
        gold = np.array([_CODES[verdicts.get(name)] for name in ids], np.int8)
    return _selected(ids, p_a, gold, _values(table, subset), unknown, gold_file or str(labels))


def read_gold(path: str) -> dict[str, Verdict]:
    """Gold by id, from JSONL, CSV or Parquet with columns id and gold; rows without gold are left out.

    What Label Studio exports is read, too: the majority of its annotators decides, skipped tasks are left out.

    Raises InputError for a file that cannot be read, a row that is no gold, and an id that has gold twice.
    """
    found: dict[str, Verdict] = {}
    votes: dict[str, list[Verdict]] = {}
    for file in files_of(path):
        with closing(open_source(file).rows()) as rows:
            for line, row in rows:
                try:
                    _add_gold(found, votes, line, row)
                except BadRow as error:
                    raise InputError(f"{file}, line {line}: {error}") from None
    found |= {name: majority(said) for name, said in votes.items() if said}
    if not found:
        raise InputError(f"{path} has no gold; each row needs id and gold (a, b or tie)")
    return found


def _add_gold(
    found: dict[str, Verdict], votes: dict[str, list[Verdict]], line: int, row: dict[str, Any] | BadRow
) -> None:
    """Raises BadRow."""
    if isinstance(row, BadRow):
        raise row
    if is_annotated(row):
        pair, said = votes_of(row)
        votes.setdefault(pair, []).extend(said)
        return
    if missing := [name for name in ("id", "gold") if name not in row]:
        raise BadRow(f"missing column: {missing[0]}; gold files have id and gold")
    verdict, name = gold_of(row), identity_of(row, line)
    if name is None or row["id"] is None:
        raise BadRow(f"bad id: {quoted(row['id'])}")
    if verdict is not None and found.setdefault(name, verdict) != verdict:
        raise BadRow(f"id {quoted(name)} has gold {found[name]} on another line and {verdict} here")


def _table(labels: Path, gold_file: str | None, subset: str | None) -> Any:
    """The columns that are needed, as a pyarrow.Table."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(labels, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if "p_a" not in names:
                raise InputError(
                    f"{labels} has no column p_a, the probability that A is better, which is what is calibrated; "
                    "methods rlaif, salmon and, for pairs, reward have it"
                )
            if gold_file is None and "gold" not in names:
                raise InputError(f"{labels} has no gold; name a file with columns id and gold with --gold")
            if gold_file is not None and "id" not in names:
                raise InputError(f"{labels} has no column id, by which --gold could be matched")
            if subset is not None and subset not in names:
                raise InputError(
                    f"{labels} has no column {one_line(subset)}; it has {one_line(known_names(subset, names))}"
                )
            wanted = {"id", "p_a", UNCALIBRATED, "gold", subset}
            return file.read([name for name in names if name in wanted])
    except FileNotFoundError:
        raise OutputError(f"no such file: {labels}; label the input first") from None
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot read {labels}: {one_line(str(error))}") from error


def _values(table: Any, subset: str | None) -> list[str] | None:
    if subset is None:
        return None
    texts, codes = value_texts(table.column(subset).combine_chunks())
    return [texts[code] for code in codes.tolist()]


def _selected(
    ids: list[str], p_a: Floats, gold: Choices, values: list[str] | None, unknown: tuple[str, ...], where: str
) -> GoldPairs:
    """Raises InputError where nothing is left."""
    there = decided(gold) & known(p_a)
    ties, unlabelled = int(np.count_nonzero(gold == TIE)), int(np.count_nonzero(decided(gold) & ~known(p_a)))
    if not there.any():
        said = [f"{count(ties, 'pair')} whose gold is a tie"] if ties else []
        said += [f"{count(unlabelled, 'pair')} with gold and without p_a"] if unlabelled else []
        said += [f"{count(len(unknown), 'id')} not in the labels, such as {one_line(unknown[0])}"] if unknown else []
        has = f": it has {', '.join(said)}" if said else "; name a file with columns id and gold with --gold"
        raise InputError(f"{where} says of no labelled pair which response is better{has}")
    places = np.flatnonzero(there).tolist()
    chosen = None if values is None else tuple(values[place] for place in places)
    kept = tuple(ids[place] for place in places)
    return GoldPairs(kept, p_a[there], gold[there] > 0, chosen, ties, unlabelled, unknown, p_a[known(p_a) & ~there])
