"""What `preftree compare` shows of a comparison: lines on a terminal, and a page."""

from __future__ import annotations

from pathlib import Path

from preftree.labeling.comparing.comparison import AXES, Comparison, figures_of
from preftree.labeling.comparing.file import COMPARISON
from preftree.labeling.comparing.page import page_of
from preftree.labeling.comparing.table import table_lines
from preftree.labeling.data.atomic import drafts
from preftree.labeling.options.comparing import CompareOptions
from preftree.labeling.report.findings import finding_lines, findings
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.terminal import one_line


def compare_lines(comparison: Comparison, options: CompareOptions) -> Result:
    """Writes the page first, if one is wanted. Raises PreftreeError."""
    out = Path(options.out)
    files = [str(out / COMPARISON)]
    if options.html is not None:
        text = page_of(comparison, f"Comparison of judges: {out.name}")
        with drafts(Path(options.html)) as [draft]:
            draft.file.write(text.encode("utf-8", "backslashreplace"))
        files.append(options.html)
    found = findings({}, {"scorer": {"judges": sorted({one.model for one in comparison.entries})}})
    said = [*(("files", one_line(name)) for name in files), *finding_lines(found)]
    lines = [*table_lines(comparison), aligned(said)]
    entries = [{name: one.axis(name) or None for name in AXES} | figures_of(one) for one in comparison.entries]
    data = {"combinations": entries, "notes": list(comparison.notes), "failed": list(comparison.failed), "files": files}
    data["findings"] = [one.record() for one in found]
    return Result(lines, data, code=1 if comparison.failed else 0)
