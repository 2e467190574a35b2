"""Text on a terminal: nothing that was written by others may steer it."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

_BIDI_AND_BREAKS = (0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in "\n\t"}
_ESCAPES |= {code: f"\\u{code:04x}" for code in (*_BIDI_AND_BREAKS, *range(0xD800, 0xE000))}

_SECONDS_BETWEEN_LINES = 30.0


def visible(text: str) -> str:
    """Control characters, bidirectional overrides and lone surrogates as \\x1b; newlines and tabs stay."""
    return text.translate(_ESCAPES)


def one_line(text: str) -> str:
    """`visible` text with every run of white space as one space."""
    return visible(" ".join(text.split()))


def count(number: int, noun: str) -> str:
    """ "1 pair", "2,000 pairs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Progress:
    """A bar with rate and ETA on a terminal; a line every half minute where stderr is a file."""

    def __init__(self, total: int, quiet: bool = False, noun: str = "pair", done: int = 0) -> None:
        """done: before this process began; its rate is of what it does itself."""
        self._unit = f"{noun}s"
        self._total = total
        self._before = self._done = done
        self._bar: Any = None
        self._silent = quiet
        self._started = self._spoke = time.monotonic()
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            # tqdm shows nothing on a terminal that claims to have no rows, as those of containers do.
            columns = shutil.get_terminal_size().columns
            self._bar = tqdm(total=total, initial=done, unit=f" {self._unit}", ncols=columns, nrows=24)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, rows: int = 1) -> None:
        """So many more are done."""
        self._done += rows
        if self._bar is not None:
            self._bar.update(rows)
        elif not self._silent and time.monotonic() - self._spoke >= _SECONDS_BETWEEN_LINES:
            self._speak()

    def _speak(self) -> None:
        self._spoke = time.monotonic()
        rate = (self._done - self._before) / (self._spoke - self._started)
        left = (self._total - self._done) / rate if rate else float("inf")
        done = f"{self._done:,} of {self._total:,} {self._unit}, {rate:,.1f} {self._unit}/s"
        print(f"{done}, about {left / 60:,.0f} min left", file=sys.stderr, flush=True)
