"""The methods by name, made from what a user asked for, or again from what a run recorded.

What methods need is imported when one is made: the command line starts without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.methods.base import Method
from preftree.labeling.options import JudgeOptions
from preftree.labeling.reasoning import reasoning_of
from preftree.labeling.types import Message, Pair, Sample, Several, Single

METHODS = ("rlaif", "direct", "salmon", "ranking", "principled")

# What only some methods take; given to another, it would be dropped in silence.
_TAKEN_BY = {
    "scale": ("direct", "principled"),
    "principles": ("salmon", "principled"),
    "aggregate": ("salmon",),
    "comparisons": ("ranking",),
    "cot": ("rlaif", "direct", "salmon"),
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
    for option, takers in _TAKEN_BY.items():
        value = getattr(options, option)
        if value is not None and value is not False and options.method not in takers:
            raise InputError(f"--{option} is not for method {options.method}; it is for {' and '.join(takers)}")
    reasoning_of(options)
    method: Method = import_module(f"preftree.labeling.methods.{options.method}").opened(options, recorded)
    for kind in method.takes:
        method.requests(_PROBES[kind])
    return method
