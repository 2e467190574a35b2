"""How far a run is: tqdm's bar on a terminal, a line every half minute where stderr is a file."""

from __future__ import annotations

import math
import shutil
import sys
import threading
from typing import Any

from tqdm import tqdm

from preftree.labeling.terminal import count

_SECONDS_BETWEEN_LOOKS, _SECONDS_BETWEEN_LINES = 1.0, 30.0
_LINE = "{n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {elapsed} elapsed, {remaining} left{postfix}"


class Progress:
    """Rate, clock and time left. The clock ticks before the first rows are labelled.

    Rows are labelled once their rationales are written, if there are any: both phases are shown, and the time left is
    estimated from rationales.

    Attributes:
        tokens: generated so far.
        rationales: that are done.
    """

    def __init__(
        self,
        total: int,
        quiet: bool = False,
        noun: str = "pair",
        done: int = 0,
        is_kept: bool = True,
        writes: str = "rationale",
    ) -> None:
        """done: before this process began; its rate is of what it does itself. is_kept: on a terminal, when it ends.

        writes: what is written before a row is done.
        """
        self._writes = writes
        self.tokens = self.rationales = self._planned_rationales = self._planned_rows = 0
        self._stop = threading.Event()
        self._is_terminal = is_terminal = sys.stderr.isatty()
        # tqdm shows nothing on a terminal that claims to have no rows, as those of containers do.
        size = {"ncols": shutil.get_terminal_size().columns, "nrows": 24}
        shown: dict[str, Any] = {"file": sys.stderr, **size, "leave": is_kept}
        if not is_terminal:  # `_tick` alone speaks
            shown = {"file": _Lines(), "bar_format": _LINE, "leave": False, "delay": 1, "mininterval": math.inf}
        self._bar = _Bar(total=total, initial=done, unit=noun, smoothing=0, disable=quiet, **shown)
        between = _SECONDS_BETWEEN_LOOKS if is_terminal else _SECONDS_BETWEEN_LINES
        self._ticker = threading.Thread(target=self._tick, args=(between,), daemon=True)

    def __enter__(self) -> Progress:
        if not self._bar.disable:
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._ticker.is_alive():
            self._ticker.join()
        self._bar.close()

    def advance(self, rows: int = 1) -> None:
        """So many more are done."""
        self._bar.update(rows)

    def note(self, text: str) -> None:
        """What else to show beside the rate."""
        self._bar.set_postfix_str(text, refresh=False)

    def planned(self, rows: int, rationales: int) -> None:
        """So many more are begun; rationales: that they ask for."""
        self._planned_rows += rows
        self._planned_rationales += rationales

    def written(self, tokens: int, rationales: int) -> None:
        """So much more of what comes before labels is there."""
        self.tokens += tokens
        self.rationales += rationales
        if self._bar.disable:
            return
        elapsed = self._bar.format_dict["elapsed"] or math.inf
        if self.rationales and self._planned_rationales:
            self._bar.rows_per_second = self.rationales * self._planned_rows / self._planned_rationales / elapsed
        said, rate = f"{self.rationales:,} written", f"{self.tokens / elapsed:,.0f} tokens/s"
        if not self._is_terminal:  # where there is room for it
            said = f"{count(self.rationales, self._writes)} written, {self.tokens:,} tokens"
        self._bar.set_postfix_str(f"{said}, {rate}", refresh=False)

    def _tick(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            self._bar.refresh()


class _Bar(tqdm):
    """rows_per_second: known from something finer than rows that are done."""

    rows_per_second: float | None = None

    @property
    def format_dict(self) -> Any:
        known: dict[str, Any] = dict(super().format_dict)
        return known if self.rows_per_second is None else known | {"rate": self.rows_per_second}


class _Lines:
    """stderr without carriage returns and blank lines, for logs."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass
