"""What can go wrong, in one line each. The command line prints `str(error)` and nothing else."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class PreftreeError(Exception):
    """A problem the user can solve. The message is one line: it names the thing and the way out."""


class ModelError(PreftreeError):
    """A model, tokenizer or chat template that is missing, broken, unsafe or not supported."""


class InputError(PreftreeError):
    """Input data, a template or an option that cannot be used."""


class UsageError(InputError):
    """An option that is unknown, out of range, or of no use beside the others; the command line exits with 2."""


class DeviceError(PreftreeError):
    """A device that failed while it worked. What it was asked is not at fault."""


class OutputError(PreftreeError):
    """An output place that cannot be written, or that holds something nobody asked to replace."""


def tried(function: Callable[..., T], *given: Any) -> T | InputError:
    """What a function gives, or the InputError that it raises."""
    try:
        return function(*given)
    except InputError as error:
        return error
