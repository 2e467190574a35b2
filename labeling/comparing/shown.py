"""What `preftree compare` shows of a comparison: lines on a terminal, and a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from preftree.labeling.comparing.comparison import Comparison
from preftree.labeling.comparing.file import COMPARISON
from preftree.labeling.comparing.page import page_of
from preftree.labeling.comparing.table import table_lines
from preftree.labeling.data.atomic import drafts
from preftree.labeling.options.comparing import CompareOptions
from preftree.labeling.report.text import aligned
from preftree.labeling.terminal import one_line


def compare_lines(comparison: Comparison, options: CompareOptions) -> Iterator[str]:
    """For a terminal; writes the page first, if one is wanted. Raises PreftreeError."""
    out = Path(options.out)
    files = [str(out / COMPARISON)]
    if options.html is not None:
        text = page_of(comparison, f"Comparison of judges: {out.name}")
        with drafts(Path(options.html)) as [draft]:
            draft.file.write(text.encode("utf-8", "backslashreplace"))
        files.append(options.html)
    yield from table_lines(comparison)
    yield aligned([("files", one_line(name)) for name in files])
