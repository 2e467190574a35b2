"""Sets of principles: those that come with preftree, or custom files. A file, YAML or JSON, is a list such as

- name: concise
  positive: The response should say what is needed in few words and then stop.
  negative: The response should be long-winded and say the same things again.   # optional: needed to negate it
  weight: 1            # optional: how much it counts among others; at 0 it is judged and never decides
  tags: [labelled]     # optional

The files released with SALMON are read as they are: `dimension`, `definition` and `negative_definition` are other
spellings of `name`, `positive` and `negative`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.principles.file import parse_principles
from preftree.labeling.principles.principle import NEGATED, Principle, one_spaced, statement_problem
from preftree.labeling.values import known_names
from preftree.labeling.yaml_file import read_text

EVERY, DEFAULT, LABELLED, REINFORCEMENT = "all", "default", "labelled", "reinforcement"
# Against reward hacking (Sun et al. 2023): added to whatever principles a response is scored under.
GUARDS = ("no-self-praise", "answer-not-advice", "no-needless-examples")
PRINCIPLE_FILE = Path(__file__).parent / "default.yaml"
_NAME_OF_TEXT = 40


def load_principles(name_or_path: str) -> tuple[Principle, ...]:
    """Those of a built-in set, or of a file; one or more, with different names, case apart.

    InputError with file, line and field for whatever is wrong with a file.
    """
    built_in = _built_in_sets()
    if name_or_path in built_in:
        return built_in[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        known = known_names(name_or_path, built_in)
        raise InputError(f"principles {name_or_path!r} are neither a file nor one of: {known}")
    return _read(path, name_or_path)


def _built_in_sets() -> dict[str, tuple[Principle, ...]]:
    """By name: "default", which is "labelled" and "reinforcement" together, "all", and a set for each tag."""
    every = _read(PRINCIPLE_FILE, EVERY)
    tags = dict.fromkeys(tag for principle in every for tag in principle.tags)
    tagged = {tag: tuple(principle for principle in every if tag in principle.tags) for tag in tags}
    return {DEFAULT: tagged[LABELLED] + tagged[REINFORCEMENT], EVERY: every, **tagged}


@dataclass(frozen=True)
class PrincipleSet:
    """Principles to score under together. name: for people. statements: one or more, all different."""

    name: str
    statements: tuple[str, ...]

    @property
    def text(self) -> str:
        """As a prompt shows them: a line each."""
        return "\n".join(f"- {statement}" for statement in self.statements)

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> PrincipleSet:
        """From `record`."""
        return cls(record["name"], tuple(record["statements"]))

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {"name": self.name, "statements": list(self.statements)}


def principle_sets(chosen: Sequence[Sequence[str]], principles: str | None) -> tuple[PrincipleSet, ...]:
    """The sets that a user asks for, each by its members; see `Statements.find` and `Statements.resolve`.

    principles: a file or a built-in set, whose names come before the built-in ones. Where a set has no members, or
    none is chosen, it is all of these. InputError for members that mean nothing, sets that are the same, a set that
    asks for a principle and its opposite, and for a file that no set needs.
    """
    own = load_principles(principles) if principles is not None else ()
    statements = Statements((*own, *load_principles(EVERY)))
    names = [principle.name for principle in own]
    members = [tuple(given) or tuple(names) for given in chosen or ((),)]
    if not all(members):
        raise InputError("name principles to score under with --under, or a file of them with --principles")
    if own and not any(statements.find(member) in own for given in members for member in given):
        raise InputError(f"no set of principles names one of {principles}; it has {', '.join(names)}")
    return statements.sets(members)


def common_set(members: Iterable[str], principles: str) -> PrincipleSet:
    """One set of these members, none or more; arguments and errors as in `principle_sets`."""
    return Statements((*load_principles(principles), *load_principles(EVERY))).together(members)


class Statements:
    """What names of principles, and texts in their place, stand for."""

    def __init__(self, principles: Iterable[Principle]) -> None:
        """Of two principles with one name the first counts."""
        self._by_name: dict[str, Principle] = {}
        for principle in principles:
            self._by_name.setdefault(principle.name.casefold(), principle)

    def find(self, member: str) -> Principle | None:
        """The principle that `member`, a name or "not " and a name, speaks of. None for any other text."""
        return self._by_name.get(_bare(member))

    def resolve(self, member: str) -> tuple[str, str]:
        """Name and statement: the positive one for a name, the negative one for "not NAME"; any other text is its own.

        InputError for what no statement may hold, for a single word, which is a name that does not exist, and for
        "not NAME" where that principle has no negative statement.
        """
        text = one_spaced(member)
        if (principle := self.find(text)) and _bare(text) == text.casefold():
            return principle.name, principle.stated(negated=False)
        if principle:
            return f"{NEGATED}{principle.name}", principle.stated(negated=True)
        if problem := statement_problem(member):
            raise InputError(f"principle {text[:_NAME_OF_TEXT]!r}: {problem}")
        if " " not in _bare(text):
            known = ", ".join(principle.name for principle in self._by_name.values())
            raise InputError(f"no principle {text!r}; known: {known}; a text of your own has two words or more")
        return text if len(text) <= _NAME_OF_TEXT else f"{text[: _NAME_OF_TEXT - 1]}…", text

    def together(self, members: Iterable[str]) -> PrincipleSet:
        """One set of all of them; what is there twice counts once."""
        resolved = {statement: name for name, statement in map(self.resolve, members)}
        for principle in self._by_name.values():
            if principle.positive in resolved and principle.negative in resolved:
                raise InputError(f"a set of principles asks for {principle.name!r} and for its opposite")
        return PrincipleSet(" + ".join(resolved.values()), tuple(resolved))

    def sets(self, members: Iterable[Sequence[str]]) -> tuple[PrincipleSet, ...]:
        """A set of each, all with different names. InputError for two that are the same, and as `together` does."""
        made = [self.together(given) for given in members]
        found: list[PrincipleSet] = []
        for place, one in enumerate(made):
            before = made[:place]
            if any(set(one.statements) == set(other.statements) for other in before):
                raise InputError(f"two sets of principles are the same: {one.name}")
            alike = sum(one.name == other.name for other in before)
            found.append(PrincipleSet(f"{one.name} ({alike + 1})", one.statements) if alike else one)
        return tuple(found)


def _bare(member: str) -> str:
    return one_spaced(member).casefold().removeprefix(NEGATED)


def _read(path: Path, name: str) -> tuple[Principle, ...]:
    return parse_principles(read_text(path, f"principles {name}"), name)
