"""What the commands share: exit codes, summaries, and the types of their arguments."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preftree.labeling.report.text import RunSummary

OK, FAILURE, USAGE, REJECTED_ROWS, INTERRUPTED = 0, 1, 2, 3, 130

EPILOG = """\
exit codes: 0 done, 1 failure, 2 wrong usage, 3 done but some rows were rejected, 130 interrupted
"""


def add_command(commands: Any, name: str, command: Any, about: str) -> argparse.ArgumentParser:
    """command: called with the parsed arguments; returns the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=EPILOG, allow_abbrev=False
    )
    parser.set_defaults(command=command)
    return parser


def reported(summary: RunSummary, quiet: bool) -> int:
    """Prints what a finished run amounts to, unless `quiet`; the exit code."""
    from preftree.labeling.report.text import render_summary

    if not quiet:
        print(render_summary(summary), file=sys.stderr)
    return REJECTED_ROWS if summary.rejections.count else OK


def positive(text: str) -> int:
    number = natural(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 0, not {text!r}")
    return int(text)


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None


def share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}")
    return share


def device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be auto, cpu, cuda or cuda:N, not {text!r}")
    return text


def shard(text: str) -> str:
    from preftree.engine.errors import InputError
    from preftree.labeling.data.dataset import parse_shard

    try:
        parse_shard(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
