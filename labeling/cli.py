"""The command `preftree`. Starts fast: whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from preftree.engine.errors import PreftreeError
from preftree.engine.openmp import wait_briefly
from preftree.labeling.commands import about, judging, runs
from preftree.labeling.commands.arguments import EPILOG, FAILURE, INTERRUPTED, OK, USAGE
from preftree.labeling.terminal import messages_on_stderr, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Everything a user can cause ends in one line on stderr."""
    args = build_parser().parse_args(argv)
    _be_lenient_about_encoding()
    wait_briefly()
    try:
        with messages_on_stderr(getattr(args, "quiet", False)):
            code: int = args.command(args)
        sys.stdout.flush()
    except PreftreeError as error:
        return _fail(str(error))
    except KeyboardInterrupt as interrupt:
        _fail(str(interrupt) or f"interrupted{getattr(args, 'when_interrupted', '')}")
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left(args)
    except Exception as error:
        if os.environ.get("PREFTREE_DEBUG") == "1":
            raise
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        return _fail(f"internal error: {what}; run with PREFTREE_DEBUG=1 for the traceback")
    return code


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; no option may be shortened, so that new ones break nobody's script."""
    parser = _Parser(
        prog="preftree",
        description="AI preference labels for pairs of responses, offline.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    judging.add_label(commands)
    judging.add_score(commands)
    runs.add_status(commands)
    runs.add_merge(commands)
    judging.add_plan(commands)
    runs.add_show(commands)
    about.add_templates(commands)
    about.add_doctor(commands)
    runs.add_instructions(commands)
    runs.add_export(commands)
    return parser


def _fail(message: str) -> int:
    print(f"preftree: {one_line(message)}", file=sys.stderr)
    return FAILURE


def _reader_left(args: argparse.Namespace) -> int:
    """`preftree plan ... | head` is no failure; labels that were not finished are."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILURE if hasattr(args, "when_interrupted") else OK


def _be_lenient_about_encoding() -> None:
    """A terminal that lacks a character gets its escape instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line, too. The parsers of the commands are of the same class."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


class _Version(argparse.Action):
    """Looks the version up only when asked: the look-up is slower than all the rest of the start."""

    def __call__(self, *_: Any) -> None:
        from importlib import metadata

        try:
            print(f"preftree {metadata.version('preftree')}")
        except metadata.PackageNotFoundError:
            print("preftree (not installed)")
        sys.exit(OK)


if __name__ == "__main__":
    sys.exit(main())
