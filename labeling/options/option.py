"""Every option, once: name, type, default, help, and whether labels depend on it.

The flags of the command line, the keys of a `--config` file, the `options` in run.json and the objects of the Python
API (`preftree.Salmon`) all follow from these classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

from preftree.engine.errors import UsageError
from preftree.labeling.values import text

Class = TypeVar("Class")


class Option(NamedTuple):
    """What there is to know of an option beyond its name, type and default.

    Attributes:
        help: for `--help`, which adds the default.
        kind: makes the value from text, or from what Python gives; ValueError "must be ...".
        metavar: what `--help` shows instead of the value; of an option without flag, its name.
        flag: where it is not the name; "" for a positional argument.
        labels: whether labels depend on the value, so that a run is resumed only with the same. False for the name of
            a thing (a model, a file) whose content is recorded itself.
        derived: whether labels depend on it and answers do not, so that a run is labelled again with another value.
        requires: options without which this one has no effect.
        serves: an option with which it has an effect without what it requires, whatever the method.
        excludes: an option that cannot be given together with this one.
        switches: help by value, for flags that each stand for a value.
        section: the heading it is listed under in `--help`, where that is not the one of its class.
    """

    help: str
    kind: Callable[[Any], Any] = text
    metavar: str | None = None
    flag: str | None = None
    labels: bool = False
    derived: bool = False
    requires: tuple[str, ...] = ()
    serves: str = ""
    excludes: str = ""
    switches: Mapping[str, str] = {}
    section: str = ""


def option(*args: Any, default: Any = MISSING, kw_only: bool = True, **named: Any) -> Any:
    """A field with an `Option`, whose arguments these are."""
    return field(default=default, kw_only=kw_only, metadata={"option": Option(*args, **named)})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def options(cls: type[Class]) -> type[Class]:
    """A frozen dataclass of options."""
    return dataclass(frozen=True, kw_only=True)(cls)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checked values. UsageError, in the words of the command line, for one that is out of range or has no effect."""

    SECTION: ClassVar[str] = "options"

    def __post_init__(self) -> None:
        given, known = self.given(), declared(type(self))
        for name, option in given.items():
            try:
                object.__setattr__(self, name, option.kind(getattr(self, name)))
            except ValueError as error:
                raise UsageError(f"{spelled(name, option)} {error}") from None
        given = self.given()  # an empty list of JSON is a default only now
        for name, option in given.items():
            if (needed := self.lacking(option)) and not self.has(option.serves):
                above = " above 0" if isinstance(getattr(self, needed), float) else ""
                others = f" or {spelled(option.serves, known[option.serves])}" if option.serves in known else ""
                raise UsageError(f"{spelled(name, option)} requires {spelled(needed, known[needed])}{above}{others}")
            if option.excludes in given:
                said = f"--{getattr(self, name)}" if option.switches else spelled(name, option)
                raise UsageError(f"{said} excludes {spelled(option.excludes, known[option.excludes])}")

    def has(self, name: str) -> bool:
        """Whether there is an option of this name, with a value."""
        return bool(getattr(self, name, None))

    def lacking(self, option: Option) -> str | None:
        """The first that `option` requires and that has no value."""
        return next((name for name in option.requires if name in declared(type(self)) and not self.has(name)), None)

    def given(self) -> dict[str, Option]:
        """The options whose value is not the default."""
        default = defaults(type(self))
        known = declared(type(self)).items()
        return {name: one for name, one in known if name not in default or getattr(self, name) != default[name]}


def declared(kind: type[Options]) -> dict[str, Option]:
    """The options of a class by name."""
    return {entry.name: entry.metadata["option"] for entry in fields(kind)}


def defaults(kind: type[Options]) -> dict[str, Any]:
    """Default by name, without the options that must be given."""
    return {entry.name: entry.default for entry in fields(kind) if entry.default is not MISSING}


def spelled(name: str, option: Option) -> str:
    """The option as it stands on the command line."""
    if option.flag == "":
        return str(option.metavar)
    return f"-{option.flag}" if option.flag and len(option.flag) == 1 else f"--{option.flag or name.replace('_', '-')}"
