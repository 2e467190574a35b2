"""The command line of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.methods import OWN_COMMANDS
from preftree.labeling.options.option import Option, spelled
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.values import Each, switch

# What would be done again, or would undo what is there.
_ONCE = {"input", "overwrite", "force_new", "retry_rejects", "profile"}


def command_line(options: LabelOptions | SampleOptions) -> list[str]:
    """The words of the command that resumes a run with these options, wherever they came from."""
    own = None if isinstance(options, SampleOptions) else OWN_COMMANDS.get(options.method)
    command = "sample" if isinstance(options, SampleOptions) else own or "label"
    words = ["preftree", command, *map(str, options.input)]
    for name, option in options.given().items():
        if name not in _ONCE and not (own and name == "method"):
            words += _words(name, option, getattr(options, name))
    return words


def _words(name: str, option: Option, value: Any) -> Iterator[str]:
    flag = spelled(name, option)
    if option.switches:
        yield f"--{value}"
    elif option.kind is switch:
        yield flag if value else f"--no-{flag[2:]}"
    else:
        for one in value if isinstance(option.kind, Each) else [value]:
            if isinstance(one, tuple):
                yield from (flag, *map(str, one))
            else:
                # An argument that begins with a dash would be taken for an option.
                yield from [f"{flag}={one}"] if str(one).startswith("-") else [flag, str(one)]
