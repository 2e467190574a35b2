"""Several files as one source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.arrow import Table
from preftree.labeling.data.jsonl import JsonLines
from preftree.labeling.data.layout import Layout, first_rows
from preftree.labeling.data.row import rivals
from preftree.labeling.data.source import Rows, Source
from preftree.labeling.terminal import one_line


class Shards:
    """Several files of one format as a `preftree.labeling.data.source.Source`: rows are numbered across them."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Raises InputError where formats differ."""
        self.sources = sources
        self._before = [0] * len(sources)
        first = sources[0]
        for other in sources:
            if _kind(other) != _kind(first):
                raise InputError(f"{first.name} is {first.format} and {other.name} {other.format}; label one at a time")

    @property
    def name(self) -> str:
        return f"{self.sources[0].name} and {len(self.sources) - 1:,} more"

    @property
    def format(self) -> str:
        formats = dict.fromkeys(source.format.partition(",")[0] for source in self.sources)
        return f"{len(self.sources):,} files of {' and '.join(formats)}"

    def rows(self, last: int = 0) -> Rows:
        for place, source in enumerate(self.sources):
            self._before[place] = last
            last = yield from source.rows(last)
        return last

    def batches(self) -> Iterator[tuple[Table, Any]]:
        """Of tables: each with its record batches, as `Table.batches` gives them."""
        last = 0
        for place, source in enumerate(self.sources):
            assert isinstance(source, Table)
            self._before[place] = last
            for batch in source.batches():
                yield source, batch
                last += batch.num_rows

    def left_out(self) -> dict[str, str]:
        return {name: kind for source in self.sources for name, kind in source.left_out().items()}

    def check(self, layout: Layout | None = None) -> None:
        """InputError where a file has other columns than the first; of JSON only those are compared that the layout
        needs, if it is known.
        """
        first: tuple[Source, set[str]] | None = None
        for source in self.sources:
            rows = first_rows(source)
            columns = {name for row in rows for name in row}
            first = first or (source, columns) if rows else first
            if first is None or not rows:
                continue
            others = set() if layout and isinstance(source, JsonLines) else columns ^ first[1]
            if (layout and not layout.fits(rows)) or others - rivals(columns | first[1]):
                has = (
                    f"{one.name} has {', '.join(map(one_line, sorted(names)))}"
                    for one, names in (first, (source, columns))
                )
                raise InputError(f"files with different columns: {' and '.join(has)}; label them one at a time")

    def places(self) -> list[tuple[int, str]]:
        """After a pass over all rows: of each file, the number of lines before it, and what tells its name apart."""
        names = [source.name for source in self.sources]
        shared = os.path.commonprefix(names).rfind("/") + 1  # noqa: RUF071  (URLs and paths may be mixed)
        return [(before, name[shared:]) for before, name in zip(self._before, names, strict=True)]


def _kind(source: Source) -> str:
    """Its format, whatever it is compressed with. JSON arrays may stand beside objects on lines."""
    return JsonLines.FORMAT if isinstance(source, JsonLines) else source.format.partition(",")[0]
