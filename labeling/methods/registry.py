"""The methods by name, made from what a user asked for, or again from what a run recorded.

What methods need is imported when one is made: the command line starts without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from preftree.engine.errors import UsageError
from preftree.labeling.calibration.identity import CALIBRATION
from preftree.labeling.data.column import Column, row_of
from preftree.labeling.methods.base import Method
from preftree.labeling.options.methods import (
    OWN_COMMANDS,
    ChoiceOptions,
    DirectOptions,
    MethodOptions,
    PrincipledOptions,
    ProbeOptions,
    RankingOptions,
    RewardOptions,
    RlaifOptions,
    RubricOptions,
    SalmonOptions,
)
from preftree.labeling.options.option import declared, spelled
from preftree.labeling.terminal import listed
from preftree.labeling.types import Message, Pair, Response, ResponseSet, Sample
from preftree.labeling.values import suggestion

if TYPE_CHECKING:
    from preftree.labeling.prompts.imitation import Imitations
    from preftree.labeling.prompts.template import Template


class Entry(NamedTuple):
    """A method in the registry.

    Attributes:
        module: where it is; the module has a function `opened(options, recorded)` that makes the method.
        options: what it takes; the method is opened with an object of this class.
    """

    module: str
    options: type[MethodOptions] = MethodOptions


SEVERAL = "several"  # what `preftree compare` runs
METHODS = {
    "rlaif": Entry("preftree.labeling.methods.rlaif", RlaifOptions),
    "direct": Entry("preftree.labeling.methods.direct", DirectOptions),
    "rubric": Entry("preftree.labeling.methods.rubric", RubricOptions),
    "salmon": Entry("preftree.labeling.methods.salmon", SalmonOptions),
    "ranking": Entry("preftree.labeling.methods.ranking", RankingOptions),
    "principled": Entry("preftree.labeling.methods.principled", PrincipledOptions),
    "reward": Entry("preftree.labeling.methods.reward", RewardOptions),
    SEVERAL: Entry("preftree.labeling.methods.several"),
    "probe": Entry("preftree.labeling.methods.probed", ProbeOptions),
}

_CALIBRATED = "preftree.labeling.methods.calibrated"
_PROMPT = (Message("user", "Which?"),)
_VALUE = '["This."]'  # of every column: a text to show, and a rubric
_PROBES: dict[type[Sample], Sample] = {
    Pair: Pair("probe", _PROMPT, "This.", "That.", gold="a"),
    Response: Response("probe", _PROMPT, "This."),
    ResponseSet: ResponseSet("probe", _PROMPT, ("This.", "That.", "Neither.")),
}


def entry_of(name: str) -> Entry:
    """The entry of a method. UsageError for a name that is not known."""
    if name not in METHODS:
        raise UsageError(
            f"method {name!r} is not known; {suggestion(name, [one for one in METHODS if one != SEVERAL])}"
        )
    return METHODS[name]


def name_of(options: MethodOptions) -> str:
    """The method that takes these options. UsageError where there is none."""
    for name, entry in METHODS.items():
        if entry.options is type(options):
            return name
    raise UsageError(f"{type(options).__name__} are the options of no method")


def open_method(options: ChoiceOptions, recorded: Mapping[str, Any] | None = None) -> Method:
    """The method that a user chose, with its part of the options; see `make_method`. UsageError for those of others."""
    own = declared(entry_of(options.method).options)
    for name, option in options.given().items():
        takers = [method for method, entry in METHODS.items() if name in declared(entry.options)]
        if takers and name not in own and not options.has(option.serves):
            ours = f"it is for {listed(map(_with_command, takers))}"
            raise UsageError(f"{spelled(name, option)} is not for method {options.method}; {ours}")
    values = {name: getattr(options, name) for name, option in own.items() if not options.lacking(option)}
    return make_method(options.method, METHODS[options.method].options(**values), recorded)


def _with_command(method: str) -> str:
    """A method, and the command that people type for it where it is not `preftree label`."""
    return f"{method} (`preftree {OWN_COMMANDS[method]}`)" if method in OWN_COMMANDS else method


def make_method(name: str, options: MethodOptions, recorded: Mapping[str, Any] | None = None) -> Method:
    """Reads templates and whatever else the method needs. InputError if it could ask about no sample at all.

    recorded: `Method.record()` of a run, whose texts take the place of files that may have changed since.
    """
    method: Method = import_module(METHODS[name].module).opened(options, recorded)
    if (calibration := getattr(options, CALIBRATION, None)) is not None:
        method = import_module(_CALIBRATED).calibrated(method, calibration, recorded)
    row = row_of(dict.fromkeys(columns_of(method), _VALUE))
    for kind in method.takes:
        method.requests(_PROBES[kind]._replace(extra=row))
    return method


def templates_of(method: Method) -> list[Template]:
    """Its template, or those of the methods that it is made of."""
    from preftree.labeling.prompts.template import Template

    values = getattr(method, "__dict__", {}).values()
    parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return [part for part in (getattr(part, "template", part) for part in parts) if isinstance(part, Template)]


def columns_of(method: Method) -> tuple[Column, ...]:
    """The columns of a row that its prompts depend on, besides those that make the row a sample."""
    from preftree.labeling.principles.row_sets import RowSets
    from preftree.labeling.rubrics.row_rubrics import RowRubrics

    shown = [column for template in templates_of(method) for column in template.columns]
    sets = getattr(method, "sets", None)
    tags = [Column((sets.tag_column,))] if isinstance(sets, RowSets) and sets.tag_column else []
    rubrics = getattr(method, "rubrics", None)
    criteria = [Column((rubrics.column,))] if isinstance(rubrics, RowRubrics) and rubrics.column else []
    return tuple(dict.fromkeys([*shown, *tags, *criteria]))


def depends_on_ids(method: Method) -> bool:
    """Whether labels depend on what rows are called: where something is drawn for each row, or put in its order."""
    from preftree.labeling.principles.row_sets import RowSets

    sets = getattr(method, "sets", None)
    return method.name == "ranking" or (isinstance(sets, RowSets) and sets.draw is not None)


def imitations_of(method: Method) -> Imitations | None:
    """What tells samples that hold lines of its templates; None for a method without."""
    from preftree.labeling.prompts.imitation import Imitations

    templates = templates_of(method)
    return Imitations(templates) if templates else None
