"""What the benchmarks' command lines have in common: arguments, where results go, and what is said meanwhile."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.hugging_face import embedded_directory
from preftree.engine.errors import InputError, OutputError, PreftreeError

Main = Callable[[Sequence[str] | None], int]


def ends_in_one_line(name: str) -> Callable[[Main], Callable[..., int]]:
    """For the `main` of a command: where preftree says what is wrong, that is all it says, with exit code 1.

    name: stands before it.
    """

    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def run(argv: Sequence[str] | None = None) -> int:
            try:
                return main(argv)
            except PreftreeError as error:
                say(f"{name}: {error}")
                return 1

        return run

    return decorate


def hugging_face_directory(model: str) -> Path:
    if model == "embedded":
        return embedded_directory()
    if not Path(model).is_dir():
        raise InputError(f"{model}: transformers needs a Hugging Face directory; use --peers none")
    return Path(model)


def names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return parse


def positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def check_out(path: Path | None) -> None:
    """Found wrong now, or after half an hour."""
    if path is None:
        return
    if path.exists():
        raise OutputError(f"{path} exists already; name another file")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: {path.parent} is no writable directory")


def write_json(path: Path | None, whole: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
