"""Values of options: what a text, or a value from Python, stands for. A ValueError says what it must be."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection
from typing import Any

_MOST = 10**18
_SHARD = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})", re.ASCII)
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT])(i?)B", re.ASCII | re.IGNORECASE)
_ADDRESS = re.compile(r"(?:ray://)?(?:[\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", re.ASCII)
_SWITCH = {"true": True, "false": False}


def text(value: object) -> str:
    """A string; a path from Python is one, too."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise _refused("a text", value)
    return value


def some_text(value: object) -> str:
    """A string that is not empty."""
    if not (found := text(value)):
        raise _refused("a text", found)
    return found


def boost(value: object) -> str:
    """A tag with a weight: "reasoning=128"."""
    tag, _, weight = text(value).rpartition("=")
    try:
        number(lambda found: found > 0, "")(weight)
    except ValueError:
        tag = ""
    if not tag:
        raise _refused("TAG=WEIGHT with a weight above 0, such as reasoning=128", value)
    return text(value)


def path(value: object) -> str:
    """Where a file or a directory is, or is to be."""
    found = text(value)
    if not found or "\0" in found:
        raise _refused("the path of a file or a directory", found)
    return found


def switch(value: object) -> bool:
    """True or false."""
    found = _SWITCH.get(str(value).lower())
    if found is None:
        raise _refused("true or false", value)
    return found


def whole(low: int, high: int = _MOST) -> Callable[[object], int]:
    """A whole number from `low` to `high`."""
    span = f"at least {low}" if high == _MOST else f"from {low} to {high:,}"

    def made(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _refused(f"a whole number, {span}", value)
        return value

    return made


def number(fits: Callable[[float], bool], span: str) -> Callable[[object], float]:
    """A finite number that `fits`; span: these, in words."""

    def made(value: object) -> float:
        try:
            found = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if isinstance(value, bool) or not math.isfinite(found) or not fits(found):
            raise _refused(span, value)
        return found

    return made


fraction = number(lambda value: 0 < value <= 1, "a number above 0 and at most 1")
share = number(lambda value: 0 <= value <= 1, "a number from 0 to 1")


def size(value: object) -> int:
    """Bytes: a whole number of them, or 512MB, 4GB (powers of 1,000), 4GiB (of 1,024)."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        step = 1024 if match[3] else 1000
        value = int(float(match[1]) * step ** (" KMGT".index(match[2].upper())))
    try:
        return whole(1)(value)
    except ValueError:
        raise _refused("bytes, such as 4GB or 4GiB", value) from None


def one_of(*names: str) -> Callable[[object], str]:
    """One of these words."""

    def made(value: object) -> str:
        if value not in names:
            raise ValueError(f"cannot be {_shown(value)}; {suggestion(str(value), names)}")
        return str(value)

    return made


def device_name(value: object) -> str:
    """Where a model runs; a torch.device, too."""
    found = str(value)
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", found, re.ASCII):
        raise _refused("auto, cpu, cuda or cuda:N", value)
    return found


def device_names(value: object) -> str:
    """Several devices, as "cuda:0,cuda:1"; a list of names, numbers or torch's, too."""
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    names = [f"cuda:{name}" if name.isdecimal() else name for name in (str(part).strip() for part in parts)]
    if not all(re.fullmatch(r"cpu|cuda:\d{1,3}", name, re.ASCII) for name in names):
        raise _refused("numbers of GPUs, such as 0,1", value)
    return ",".join(names)


def dtype_name(value: object) -> str:
    """The type that a model computes in; a torch.dtype, too, and None for auto."""
    short = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "float8_e4m3fn": "fp8"}
    known = one_of("auto", "float32", "bfloat16", "float16", "int8", "fp8", *short)
    found = "auto" if value is None else known(str(value).removeprefix("torch."))
    return short.get(found, found)


def shard_part(value: object) -> str:
    """Part I of N, from 1: "2/3"."""
    match = _SHARD.fullmatch(str(value))
    if match is None or int(match[1]) > int(match[2]):
        raise _refused("I/N, such as 2/3 for the second of three", value)
    return str(value)


def cluster_address(value: object) -> str:
    """Where a Ray cluster is."""
    found = text(value)
    if found not in ("auto", "local") and not _ADDRESS.fullmatch(found):
        raise _refused("auto, local, HOST:PORT or ray://HOST:PORT", found)
    return found


class Each:
    """A list, each entry of which is made by `item`."""

    def __init__(self, item: Callable[[Any], Any]) -> None:
        self.item = item

    def __call__(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _refused("a list", value)
        return tuple(map(self.item, value))


class OneOrEach(Each):
    """A list, or its only entry."""

    def __call__(self, value: object) -> tuple[Any, ...]:
        return super().__call__([value] if isinstance(value, str | os.PathLike) else value)


class Bare:
    """A value that the command line may leave out after its flag, which then stands for `value`."""

    def __init__(self, item: Callable[[Any], Any], value: Any) -> None:
        self.item, self.value = item, value

    def __call__(self, value: object) -> Any:
        return self.item(value)


def suggestion(name: str, known: Collection[str]) -> str:
    """The one of `known` that is meant, most likely; where none is near, all of them."""
    return _guess(name, known) or f"use one of {', '.join(known)}"


def known_names(name: str, known: Collection[str]) -> str:
    """All of `known`, and the one that is meant, where one is near: "prompt, output; did you mean output?"."""
    guess = _guess(name, known)
    return ", ".join(known) + (f"; {guess}" if guess else "")


def _guess(name: str, known: Collection[str]) -> str:
    from difflib import get_close_matches

    words = {word.lstrip("-"): word for word in known}
    near = get_close_matches(name.lstrip("-"), words, 1, 0.7)
    return f"did you mean {words[near[0]]}?" if near else ""


def _refused(wanted: str, value: object) -> ValueError:
    return ValueError(f"must be {wanted}, not {_shown(value)}")


def _shown(value: object) -> str:
    return f"{value!r:.100}" if isinstance(value, str) else f"{value!s:.100}"
