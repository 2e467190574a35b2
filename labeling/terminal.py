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
_SECONDS_BETWEEN_LOOKS = 0.1


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
    """A bar with rate and ETA on a terminal; a line every half minute where stderr is a file.

    Rows are labelled once their rationales are written, if there are any: both phases are shown.
    """

    def __init__(self, total: int, quiet: bool = False, noun: str = "pair", done: int = 0) -> None:
        """done: before this process began; its rate is of what it does itself."""
        self._unit = f"{noun}s"
        self._total = total
        self._before = self._done = done
        self._tokens = self._rationales = 0
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
        elif self._is_time_to_speak():
            self._speak()

    def written(self, tokens: int, rationales: int) -> None:
        """So much more of what comes before labels is there."""
        self._tokens += tokens
        self._rationales += rationales
        if self._bar is not None:
            now = time.monotonic()
            if now - self._spoke >= _SECONDS_BETWEEN_LOOKS:
                self._spoke = now
                self._bar.set_postfix_str(self._explaining())
        elif self._is_time_to_speak():
            self._speak()

    def _is_time_to_speak(self) -> bool:
        return not self._silent and time.monotonic() - self._spoke >= _SECONDS_BETWEEN_LINES

    def _speak(self) -> None:
        self._spoke = time.monotonic()
        parts = [f"{self._done:,} of {self._total:,} {self._unit}"]
        if self._done > self._before:
            rate = (self._done - self._before) / (self._spoke - self._started)
            parts[0] += f", {rate:,.1f} {self._unit}/s, about {(self._total - self._done) / rate / 60:,.0f} min left"
        if self._tokens:
            parts.append(self._explaining())
        print("; ".join(parts), file=sys.stderr, flush=True)

    def _explaining(self) -> str:
        rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
        return f"{count(self._rationales, 'rationale')} written, {self._tokens:,} tokens, {rate:,.0f} tokens/s"
