"""The command `preftree`. Starts fast: whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from preftree.engine.errors import PreftreeError, UsageError
from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS, FAILURE, INTERRUPTED, OK, USAGE
from preftree.labeling.options.runs import RunOptions
from preftree.labeling.streams import speak_utf8, standard_streams, terminated_as_interrupted
from preftree.labeling.terminal import coloured, messages_on_stderr, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Everything a user can cause ends in one line on stderr."""
    if argv is None:
        speak_utf8()
    with standard_streams(), terminated_as_interrupted():
        return _run(sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str]) -> int:
    labels = False
    try:
        command, options = parse(COMMANDS, argv)
        labels = isinstance(options, RunOptions)
        from preftree.engine.openmp import wait_briefly  # not for --help

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
        return OK  # `preftree plan ... | head`
    except Exception as error:
        if os.environ.get("PREFTREE_DEBUG") == "1":
            raise
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        return _fail(f"internal error: {what}; run with PREFTREE_DEBUG=1 for the traceback")
    return code


def _fail(message: str, code: int = FAILURE) -> int:
    said = f"preftree: {one_line(message)}"
    print(said if code == INTERRUPTED else coloured(said, "red", sys.stderr), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
