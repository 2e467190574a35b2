"""The methods by name, made from what a user asked for, or again from what a run recorded.

What methods need is imported when one is made: the command line starts without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.errors import InputError
from labeling.methods.base import Method
from labeling.options import JudgeOptions
from labeling.types import Message, Pair, Sample, Several, Single

if TYPE_CHECKING:
    from labeling.prompts import Template

# Makes the method. recorded: `Method.record()` of a run, whose texts take the place of files that may have changed.
Opener = Callable[[JudgeOptions, Mapping[str, Any] | None], Method]

_PROMPT = (Message("user", "Which?"),)
_PROBES: dict[type[Sample], Sample] = {
    Pair: Pair("probe", _PROMPT, "This.", "That."),
    Single: Single("probe", _PROMPT, "This."),
    Several: Several("probe", _PROMPT, ("This.", "That.", "Neither.")),
}


def open_method(options: JudgeOptions, recorded: Mapping[str, Any] | None = None) -> Method:
    """Reads templates and whatever else the method needs. InputError if it could ask about no sample at all."""
    if options.method not in METHODS:
        raise InputError(f"method {options.method!r} is not known; use one of {', '.join(METHODS)}")
    method = METHODS[options.method](options, recorded)
    for kind in method.takes:
        method.requests(_PROBES[kind])
    return method


def _template(options: JudgeOptions, recorded: Mapping[str, Any] | None, default: str) -> Template:
    """The template that was asked for, `default` where none was."""
    from labeling.prompts import load_template, parse_template

    name = options.template or default
    return load_template(name) if recorded is None else parse_template(recorded["template"]["source"], name)


def _rlaif(options: JudgeOptions, recorded: Mapping[str, Any] | None) -> Method:
    from labeling.methods.rlaif import Rlaif

    return Rlaif(_template(options, recorded, "general"), options.preamble, options.exemplars)


METHODS: dict[str, Opener] = {"rlaif": _rlaif}
