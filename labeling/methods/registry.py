"""The methods by name, made from what a user asked for, or again from what a run recorded.

What methods need is imported when one is made: the command line starts without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from preftree.engine.errors import InputError
from preftree.labeling.methods.base import Method
from preftree.labeling.options import JudgeOptions
from preftree.labeling.reasoning import reasoning_of
from preftree.labeling.types import Message, Pair, Sample, Several, Single


class Entry(NamedTuple):
    """A method in the registry.

    Attributes:
        module: where it is; the module has a function `opened(options, recorded)` that makes the method.
        options: fields of `JudgeOptions` that not every method takes. Given to another, they are refused.
        is_chosen_by_name: whether `preftree label --method` offers it.
    """

    module: str
    options: tuple[str, ...] = ()
    is_chosen_by_name: bool = True


METHODS = {
    "rlaif": Entry("preftree.labeling.methods.rlaif", ("cot",)),
    "direct": Entry("preftree.labeling.methods.direct", ("scale", "cot")),
    "salmon": Entry("preftree.labeling.methods.salmon", ("principles", "aggregate", "cot")),
    "ranking": Entry("preftree.labeling.methods.ranking", ("comparisons",)),
    "principled": Entry("preftree.labeling.methods.principled", ("scale", "principles"), is_chosen_by_name=False),
}

_PROMPT = (Message("user", "Which?"),)
_PROBES: dict[type[Sample], Sample] = {
    Pair: Pair("probe", _PROMPT, "This.", "That."),
    Single: Single("probe", _PROMPT, "This."),
    Several: Several("probe", _PROMPT, ("This.", "That.", "Neither.")),
}


def open_method(options: JudgeOptions, recorded: Mapping[str, Any] | None = None) -> Method:
    """Reads templates and whatever else the method needs. InputError if it could ask about no sample at all.

    recorded: `Method.record()` of a run, whose texts take the place of files that may have changed since.
    Every method's module has such a function, called `opened`.
    """
    if options.method not in METHODS:
        raise InputError(f"method {options.method!r} is not known; use one of {', '.join(METHODS)}")
    chosen = METHODS[options.method]
    for option in dict.fromkeys(option for entry in METHODS.values() for option in entry.options):
        value = getattr(options, option)
        if value is not None and value is not False and option not in chosen.options:
            takers = [name for name, entry in METHODS.items() if option in entry.options]
            raise InputError(f"--{option} is not for method {options.method}; it is for {' and '.join(takers)}")
    reasoning_of(options)
    method: Method = import_module(chosen.module).opened(options, recorded)
    for kind in method.takes:
        method.requests(_PROBES[kind])
    return method
