"""Every combination of the methods, templates and numbers of exemplars that a user named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import METHODS, make_method
from preftree.labeling.methods.several import Several
from preftree.labeling.options.comparing import CombinationOptions, CompareOptions
from preftree.labeling.options.methods import MethodOptions
from preftree.labeling.options.option import declared, spelled

MODEL = "embedded"


class Choice(NamedTuple):
    """What was named. None: what suits the method."""

    method: str
    template: str | None
    preamble: str
    exemplars: int
    principles: str | None


@dataclass(frozen=True, eq=False)
class Combination:
    """What a model is asked with.

    Attributes:
        choice: what was named for it.
        template: the name of its template.
        options: that its method was made with.
        made: the method.
    """

    choice: Choice
    template: str
    options: MethodOptions
    made: Method

    @property
    def name(self) -> str:
        """Different for all combinations of a comparison."""
        method, _, preamble, exemplars, principles = self.choice
        return " ".join((method, self.template, preamble, str(exemplars), *((principles,) if principles else ())))


@dataclass(frozen=True)
class Combinations:
    """Attributes:
    made: those that can be asked, one or more.
    left_out: those that cannot, and why.
    """

    made: tuple[Combination, ...]
    left_out: tuple[tuple[str, str], ...]

    def method(self) -> Several:
        """All of them as one method."""
        return several(self.made)


def several(combinations: Sequence[Combination]) -> Several:
    """One method made of these."""
    return Several(
        tuple(one.name for one in combinations),
        tuple(one.made for one in combinations),
        tuple(one.options for one in combinations),
    )


def models_of(options: CompareOptions) -> tuple[str, ...]:
    """The models to compare. UsageError for one that is named twice."""
    _check_repeats("model", options.model)
    return options.model or (MODEL,)


def combinations_of(options: CompareOptions) -> Combinations:
    """Of all that was named but the models.

    A template may have fewer exemplars than another, or be for another method: such a combination is left out, unless
    a value that was named would be in none.

    Raises:
        UsageError: a value is named twice.
        InputError: a value is in no combination.
    """
    for name in ("method", "template", "preamble", "exemplars", "principles"):
        _check_repeats(name, getattr(options, name))
    made: dict[Any, Combination] = {}
    refused: list[tuple[Choice, str]] = []
    for choice in _choices(options):
        try:
            one = _made(choice, options.fence)
            key = _asked(one)
            if key in made:
                raise InputError(f"asks the same as {made[key].name}")
            made[key] = one
        except InputError as error:
            refused.append((choice, str(error)))
    _check_used([one.choice for one in made.values()], refused)
    return Combinations(tuple(made.values()), tuple((_spelled(choice), reason) for choice, reason in refused))


def _choices(options: CombinationOptions) -> Iterator[Choice]:
    axes: tuple[Sequence[Any], ...] = (
        options.template or (None,),
        options.preamble or ("detailed",),
        options.exemplars or (0,),
    )
    methods = options.method or ("rlaif",)
    if options.principles and "salmon" not in methods:
        raise UsageError("--principles is not for these methods; it is for salmon: add --method salmon")
    for method in methods:
        principles: Sequence[str | None] = (options.principles if method == "salmon" else ()) or (None,)
        yield from (Choice(method, *values) for values in product(*axes, principles))


def _made(choice: Choice, fence: bool) -> Combination:
    """Raises InputError where there is no such prompt."""
    kind = METHODS[choice.method].options
    values = {**choice._asdict(), "fence": fence}
    options = kind(**{name: value for name, value in values.items() if name in declared(kind)})
    method: Any = make_method(choice.method, options)
    return Combination(choice, method.template.name, options, method)


def _asked(one: Combination) -> Any:
    """What decides its prompts and labels: equal for a template and its copy."""
    method: Any = one.made
    preamble = method.template.preambles[method.preamble]
    return method.name, method.template.source, preamble, method.exemplars, getattr(method, "principles", ())


def _check_repeats(name: str, values: Sequence[Any]) -> None:
    for place, value in enumerate(values):
        if value in values[:place]:
            flag = spelled(name, declared(CombinationOptions)[name])
            raise UsageError(f"{flag} {value} is named twice, which makes the same combination twice; leave one out")


def _check_used(made: Sequence[Choice], refused: Sequence[tuple[Choice, str]]) -> None:
    """InputError for a value of a refused combination that is in no other one."""
    for choice, reason in refused:
        for name, value in choice._asdict().items():
            if all(getattr(one, name) != value for one in made):
                raise InputError(f"{_spelled(choice)}: {reason}")


def _spelled(choice: Choice) -> str:
    """ "rlaif general base 0"; nothing stands for what suits the method."""
    return " ".join(str(value) for value in choice if value is not None)
