"""The command `preftree`. Starts fast: whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from preftree.engine.errors import PreftreeError, UsageError
from preftree.labeling.commands.parser import JSON, parse
from preftree.labeling.commands.table import COMMANDS, FAILURE, INTERRUPTED, OK, USAGE
from preftree.labeling.options.runs import RunOptions
from preftree.labeling.result import Result
from preftree.labeling.streams import speak_utf8, standard_streams, terminated_as_interrupted
from preftree.labeling.terminal import coloured, messages_on_stderr, one_line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Everything a user can cause ends in one line on stderr."""
    if argv is None:
        speak_utf8()
    with standard_streams(), terminated_as_interrupted():
        return _run(sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str]) -> int:
    labels, as_json = False, JSON in argv
    try:
        command, options = parse(COMMANDS, argv)
        labels = isinstance(options, RunOptions)
        from preftree.engine.openmp import wait_briefly  # not for --help

        wait_briefly()
        with messages_on_stderr(getattr(options, "quiet", False)):
            result = command.run(options)
        return _shown(result, as_json)
    except UsageError as error:
        return _fail(str(error), USAGE, as_json)
    except PreftreeError as error:
        return _fail(str(error), FAILURE, as_json)
    except KeyboardInterrupt as interrupt:
        said = str(interrupt) or f"interrupted{'; nothing was written' if labels else ''}"
        return _fail(said, INTERRUPTED, as_json)
    except BrokenPipeError:
        return OK  # `preftree plan ... | head`
    except Exception as error:
        if os.environ.get("PREFTREE_DEBUG") == "1":
            raise
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        return _fail(f"internal error: {what}; run with PREFTREE_DEBUG=1 for the traceback", FAILURE, as_json)


def _shown(result: Result, as_json: bool) -> int:
    """Prints it; the exit code."""
    if as_json:
        _print_json({"error": result.error, **result.data} if result.error else result.data)
    else:
        for line in result:
            print(line)
    sys.stdout.flush()
    return _fail(result.error, FAILURE) if result.error else result.code


def _fail(message: str, code: int, as_json: bool = False) -> int:
    """One line on stderr; with --json an object on stdout, too."""
    said = one_line(message)
    if as_json:
        with suppress(PreftreeError, BrokenPipeError):  # what cannot be printed is said on stderr
            _print_json({"error": said, "exit_code": code})
            sys.stdout.flush()
    said = f"preftree: {said}"
    print(said if code == INTERRUPTED else coloured(said, "red", sys.stderr), file=sys.stderr)
    return code


def _print_json(data: Mapping[str, Any]) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=str))


if __name__ == "__main__":
    sys.exit(main())
