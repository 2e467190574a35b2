"""The command `preftree`. Starts fast: whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from preftree.engine.errors import PreftreeError, UsageError
from preftree.engine.openmp import wait_briefly
from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS, FAILURE, INTERRUPTED, OK, USAGE
from preftree.labeling.options import RunOptions
from preftree.labeling.terminal import messages_on_stderr, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Everything a user can cause ends in one line on stderr."""
    _be_lenient_about_encoding()
    labels = False
    try:
        command, options = parse(COMMANDS, sys.argv[1:] if argv is None else argv)
        labels = isinstance(options, RunOptions)
        wait_briefly()
        with messages_on_stderr(getattr(options, "quiet", False)):
            code = command.run(options)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(str(error), USAGE)
    except PreftreeError as error:
        return _fail(str(error))
    except KeyboardInterrupt as interrupt:
        return _fail(str(interrupt) or f"interrupted{'; nothing was written' if labels else ''}", INTERRUPTED)
    except BrokenPipeError:
        # `preftree plan ... | head` is no failure; labels that were not finished are.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE if labels else OK
    except Exception as error:
        if os.environ.get("PREFTREE_DEBUG") == "1":
            raise
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        return _fail(f"internal error: {what}; run with PREFTREE_DEBUG=1 for the traceback")
    return code


def _fail(message: str, code: int = FAILURE) -> int:
    print(f"preftree: {one_line(message)}", file=sys.stderr)
    return code


def _be_lenient_about_encoding() -> None:
    """A terminal that lacks a character gets its escape instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
