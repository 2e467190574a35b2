"""The report as a browser shows it. Skipped where there is no Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from preftree.labeling.methods.principle_labels import Aggregate, PrincipleScore, SalmonLabel
from preftree.labeling.options.reading import ReportOptions
from preftree.labeling.runs.report import write_html
from preftree.labeling.types import Label, PairLabel
from tests.labeling.fakes import row
from tests.labeling.labelled_run import labelled_run

PHONE = 390
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *(
        "--enable-logging=stderr",
        "--hide-scrollbars",
        "--virtual-time-budget=5000",
        "--window-size=1200,900",
        "--dump-dom",
    ),
)
# A frame has a width of its own, which a window may not: it is not made narrower than its controls.
_FRAME = """<!DOCTYPE html><title>not measured</title>
<iframe style="width: {width}px; height: 800px; border: 0" srcdoc="{page}"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument;
  const widths = [page.documentElement.scrollWidth];
  for (const closed of page.querySelectorAll("details")) closed.open = true;
  widths.push(page.documentElement.scrollWidth);
  document.title = `widths ${{widths}} of ${{page.documentElement.clientWidth}}`;
}};
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium")
    return found


def seen(browser: str, page: str, tmp_path: Path) -> tuple[int, list[str]]:
    """How wide a phone finds the page, rows folded or not, and what the console said."""
    framed = tmp_path / "framed.html"
    framed.write_text(_FRAME.format(width=PHONE, page=escape(page)), encoding="utf-8")
    command = [browser, *_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", framed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    measured = re.search(r"<title>widths (\d+),(\d+) of 390</title>", done.stdout)
    assert measured, done.stdout[:500] + done.stderr[-2000:]
    return max(map(int, measured.groups())), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def report_of(run: Path, subset: str | None = None) -> str:
    out = run.with_name(f"{run.name}.html")
    write_html(ReportOptions(labels=str(run), html=str(out), subset=subset), out)
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pairs_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of texts that have no place to break a line."""
    word = "https://example.org/" + "word" * 100
    rows = [
        row(id=f"{word}{k}", prompt=word, response_a=word * 3, response_b=f"```\n{word * 2}\n```", gold="ab"[k % 2])
        | {"kind": word if k % 3 else "essay"}
        for k in range(30)
    ]
    labels: list[Label | None] = [PairLabel(k / 60 + 0.2, k / 40, 0.3, 0.9, 0.9, 10) for k in range(30)]
    return report_of(labelled_run(tmp_path_factory.mktemp("pairs") / "run", "rlaif", rows, labels), subset="kind")


def salmon_page(directory: Path) -> str:
    names = [f"{'principle' * 8} {k}" for k in range(12)]
    scores = tuple(PrincipleScore(name, k - 3.0, 2.0 - k, 0.9, 0.9) for k, name in enumerate(names))
    rows = [row(id=f"row {k}", gold="a") for k in range(6)]
    return report_of(labelled_run(directory / "run", "salmon", rows, [SalmonLabel(Aggregate(0.0, 0.5), scores, 1)] * 6))


def test_reports_on_a_phone(browser: str, pairs_page: str, tmp_path: Path) -> None:
    """Catches a table, plot or text that makes the page scroll sideways, and markup that the browser complains of."""
    assert seen(browser, pairs_page, tmp_path) == (PHONE, [])
    assert seen(browser, salmon_page(tmp_path), tmp_path) == (PHONE, [])


@pytest.mark.parametrize(
    ("added", "width"),
    [
        ('<div style="width: 500px">wide</div>', 500),
        ('<details><summary>rows</summary><pre style="width: 450px">wide</pre></details>', 450),
    ],
)
def test_what_is_too_wide_is_seen(browser: str, pairs_page: str, added: str, width: int, tmp_path: Path) -> None:
    """Catches a look at pages that measures nothing, or only what is unfolded."""
    found, console = seen(browser, pairs_page.replace("</body>", f"{added}</body>"), tmp_path)
    assert found >= width
    assert console == []


def test_what_the_console_says_is_seen(browser: str, pairs_page: str, tmp_path: Path) -> None:
    """Catches a console that nobody reads, and a page that would run a script or load a picture from data."""
    added = '<svg viewBox="0 0 9 9"><path d="M none"/></svg><img src="https://localhost/x"><script>alert(1)</script>'
    width, console = seen(browser, pairs_page.replace("</body>", f"{added}</body>"), tmp_path)
    assert width == PHONE
    for said in ("attribute d: Expected number", "Loading the image", "Executing inline script violates"):
        assert len([line for line in console if said in line]) == 1
