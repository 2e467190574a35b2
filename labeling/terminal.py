"""Text on a terminal: nothing that was written by others may steer it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

WIDTH = 80  # columns that summaries fit
_BIDI_AND_BREAKS = (0x061C, 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_ESCAPES = {code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in "\n\t"}
_ESCAPES |= {code: f"\\u{code:04x}" for code in (*_BIDI_AND_BREAKS, *range(0xD800, 0xE000))}


def visible(text: str) -> str:
    """Control characters, bidirectional overrides and lone surrogates as \\x1b; newlines and tabs stay."""
    return text.translate(_ESCAPES)


def one_line(text: str) -> str:
    """`visible` text with every run of white space as one space."""
    return visible(" ".join(text.split()))


def count(number: int, noun: str) -> str:
    """ "1 pair", "2,000 pairs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def duration(seconds: float) -> str:
    """ "4.2 s", "95 s", "12 min", "5 h 3 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:,.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes:,} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"


_COLOURS = {"red": 31, "yellow": 33}


def coloured(text: str, colour: Literal["red", "yellow"], stream: Any) -> str:
    """`text` in a colour where `stream` is a terminal; NO_COLOR and FORCE_COLOR decide otherwise, in this order."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if _takes_colours(stream) else text


def _takes_colours(stream: Any) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def messages_on_stderr(quiet: bool) -> Iterator[None]:
    """What the logger "preftree" reports becomes lines on stderr; warnings look as errors do. quiet: those alone."""
    logger, handler = logging.getLogger("preftree"), _Lines()
    before = logger.level
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        said = one_line(record.getMessage())
        if record.levelno >= logging.WARNING:
            is_error = record.levelno >= logging.ERROR
            said = coloured(f"preftree: {said}", "red" if is_error else "yellow", sys.stderr)
        tqdm.write(said, file=sys.stderr)


def heading(text: str) -> str:
    """A line that divides what is printed, with a blank line before it."""
    return f"\n---- {text} ----"
