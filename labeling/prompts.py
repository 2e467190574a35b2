"""Prompt templates: text files that turn a sample into what a judge reads.

A template file is YAML front matter between two lines of `---`, then the sample in Jinja:

    ---
    description: Which of two answers is better.
    labels: ["1", "2"]              # what the judge answers when the first, the second response is preferred
    values: null                    # one response: a number for each label, where the labels are none themselves
    invert: false                   # true where the judge is asked for the WORSE response, or scores badness
    system: null                    # optional system text
    preamble:                       # one text, or several by name; chosen with --preamble
      base: ...
      detailed: ...
    exemplars: []                   # optional; each with the sample's variables and the label
    answer: "Preferred response: "  # the judge's answer up to the label
    ---
    Question: {{ prompt }}
    ...{{ response_1 }}...{{ response_2 }}

The prompt is the preamble, the exemplars with their answers, the sample, and the started answer. The sample shows
two responses ({{ response_1 }}, {{ response_2 }}) or one ({{ response }}), and may show {{ prompt }}, a {{ principle }}
to judge by, and the {{ low }} and {{ high }} end of the labels. What differs between the prompts of one sample belongs
last: everything before it is computed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import jinja2
import jinja2.meta
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import InputError
from labeling.display import one_line
from labeling.types import Message, ScoreRequest

TEMPLATE_DIRECTORY = Path(__file__).parent / "templates"
MAX_TEMPLATE_BYTES = 1_000_000
DEFAULT_PREAMBLE = "detailed"
_PAIR, _SINGLE = ("response_1", "response_2"), ("response",)
_VARIABLES = ("prompt", *_PAIR, *_SINGLE, "principle", "low", "high")
_KEYS = frozenset({"description", "labels", "values", "invert", "system", "preamble", "exemplars", "answer"})
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=False)


@dataclass(frozen=True)
class Exemplar:
    """A solved sample shown before the real one: the sample's variables, and the answer."""

    variables: Mapping[str, str]
    label: str


@dataclass(frozen=True)
class Template:
    """A parsed template file. name: for messages. source: the whole file. body: the sample, in Jinja.

    labels: two or more; of a template for pairs, the first response's and the second's. values: the number that each
    label stands for, or None. variables: those of the body.
    """

    name: str
    source: str
    description: str
    labels: tuple[str, ...]
    values: tuple[float, ...] | None
    invert: bool
    system: str | None
    preambles: Mapping[str, str]
    exemplars: tuple[Exemplar, ...]
    answer: str
    body: str
    variables: frozenset[str]

    @property
    def num_responses(self) -> int:
        """How many responses a prompt shows: 1 or 2."""
        return 1 if "response" in self.variables else 2

    @property
    def principle_is_last(self) -> bool:
        """Whether everything that all principles of a sample share comes before the principle."""
        last_shared = max(self.body.rfind(name) for name in ("prompt", "response"))
        return self.body.find("principle") > last_shared

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """For run.json: enough to ask the same again."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "source": self.source,
            "invert": self.invert,
            "labels": list(self.labels),
        }

    @cached_property
    def _compiled(self) -> jinja2.Template:
        return _ENVIRONMENT.from_string(self.body)

    def request(
        self,
        prompt: Sequence[Message],
        *responses: str,
        preamble: str,
        exemplars: int,
        principle: str | None = None,
        title: str = "",
    ) -> ScoreRequest:
        """The request that shows `responses` in this order, behind the first `exemplars` exemplars."""
        if preamble not in self.preambles:
            raise InputError(f"template {self.name} has no preamble {preamble!r}; it has {', '.join(self.preambles)}")
        if not 0 <= exemplars <= len(self.exemplars):
            raise InputError(f"template {self.name} has {len(self.exemplars)} exemplars, {exemplars} were asked for")
        solved = (
            f"{self._sample(shown.variables)}\n\n{self.answer}{shown.label}" for shown in self.exemplars[:exemplars]
        )
        parts = [self.preambles[preamble], *solved]
        names = _SINGLE if self.num_responses == 1 else _PAIR
        variables = {"prompt": conversation_text(prompt), **dict(zip(names, responses, strict=True))}
        if principle is not None:
            variables["principle"] = principle
        parts.append(self._sample(variables))
        return ScoreRequest("\n\n".join(parts), self.answer, self.labels, self.system, title)

    def _sample(self, variables: Mapping[str, str]) -> str:
        try:
            return self._compiled.render(**variables, low=self.labels[0], high=self.labels[-1])
        except Exception as error:  # whatever a template's expressions raise at run time is the template's mistake
            raise InputError(f"template {self.name}: cannot be rendered: {_one_line(error)}") from None


def conversation_text(messages: Sequence[Message]) -> str:
    """A conversation as text. A single user message is itself; of several, each is headed by its role."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)


def template_names() -> list[str]:
    """Names of the templates that come with preftree."""
    return sorted(path.stem for path in TEMPLATE_DIRECTORY.glob("*.txt"))


def load_template(name_or_path: str) -> Template:
    """A template by name, or from a file. InputError with file and line for whatever is wrong with it."""
    if name_or_path in template_names():
        path = TEMPLATE_DIRECTORY / f"{name_or_path}.txt"
    else:
        path = Path(name_or_path)
        if not path.is_file():
            known = ", ".join(template_names())
            raise InputError(f"template {name_or_path!r} is neither a file nor one of: {known}")
    try:
        if path.stat().st_size > MAX_TEMPLATE_BYTES:
            raise InputError(f"template {path} is larger than {MAX_TEMPLATE_BYTES:,} bytes")
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"template {path} cannot be read: {_one_line(error)}") from None
    return parse_template(source, name_or_path)


def chosen_template(name: str | None, recorded: Mapping[str, Any] | None, default: str) -> Template:
    """The template `name`, or else `default`; its text as a run recorded it where there is such a record."""
    if recorded is None:
        return load_template(name or default)
    return parse_template(recorded["template"]["source"], name or default)


def parse_template(source: str, name: str) -> Template:
    """Parse a template file's text; `name` is used in messages."""
    lines = source.split("\n")
    if lines[0].rstrip() != "---" or "---" not in (line.rstrip() for line in lines[1:]):
        raise InputError(f"{name}:1: a template begins with front matter between two lines of ---")
    end = next(number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---")
    head = _front_matter("\n".join(lines[1:end]), name)
    body = "\n".join(lines[end + 1 :]).strip("\n")
    variables = _variables(body, name, first_line=end + 2)
    labels = _labels(head, name)
    if "response_1" in variables and len(labels) != 2:
        raise InputError(f'{name}: "labels" of a template with two responses must be two, such as ["1", "2"]')
    return Template(
        name=name,
        source=source,
        description=_text(head, "description", name),
        labels=labels,
        values=_values(head, labels, name),
        invert=_flag(head, "invert", name),
        system=_text(head, "system", name) if head.get("system") is not None else None,
        preambles=_preambles(head, name),
        exemplars=_exemplars(head, labels, variables, name),
        answer=_text(head, "answer", name),
        body=body,
        variables=variables,
    )


def _front_matter(text: str, name: str) -> dict[str, Any]:
    try:
        head = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 2 if mark else 1
        raise InputError(f"{name}:{line}: front matter is not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(head, dict):
        raise InputError(f"{name}:2: front matter must be `key: value` lines")
    unknown = [str(key) for key in head if key not in _KEYS]
    if unknown:
        raise InputError(f"{name}: unknown front matter key {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    return head


def _variables(body: str, name: str, first_line: int) -> frozenset[str]:
    try:
        used = frozenset(jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(body)))
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{name}:{first_line + error.lineno - 1}: {_one_line(error)}") from None
    for variable in sorted(used - set(_VARIABLES)):
        line = first_line + next((i for i, text in enumerate(body.split("\n")) if variable in text), 0)
        raise InputError(f"{name}:{line}: unknown variable {variable!r}; known: {', '.join(_VARIABLES)}")
    if "response" in used and used & set(_PAIR):
        raise InputError(f"{name}:{first_line}: the sample shows {{{{ response }}}} and a pair; it must be one of them")
    for variable in () if "response" in used else _PAIR:
        if variable not in used:
            raise InputError(f"{name}:{first_line}: the sample never shows {{{{ {variable} }}}}")
    return used


def _text(head: Mapping[str, Any], key: str, name: str) -> str:
    value = head.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name}: front matter needs {key!r} as a non-empty text (quote it)")
    return value


def _flag(head: Mapping[str, Any], key: str, name: str) -> bool:
    value = head.get(key, False)
    if not isinstance(value, bool):
        raise InputError(f"{name}: {key!r} must be true or false, not {value!r}")
    return value


def _labels(head: Mapping[str, Any], name: str) -> tuple[str, ...]:
    labels = head.get("labels")
    if not _are_texts(labels) or len(labels) < 2:
        raise InputError(f'{name}: "labels" must be two or more quoted texts, such as ["1", "2"]')
    for number, label in enumerate(labels):
        if label in labels[:number]:
            raise InputError(f"{name}: two labels are the same: {label!r}")
    return tuple(labels)


def _values(head: Mapping[str, Any], labels: tuple[str, ...], name: str) -> tuple[float, ...] | None:
    values = head.get("values")
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != len(labels):
        raise InputError(f"{name}: 'values' must be one number for each of the {len(labels)} labels")
    if any(isinstance(value, bool) or not isinstance(value, int | float) or value != value for value in values):
        raise InputError(f"{name}: 'values' must be numbers")
    return tuple(map(float, values))


def _preambles(head: Mapping[str, Any], name: str) -> dict[str, str]:
    """A single preamble serves under every name."""
    preamble = head.get("preamble")
    if isinstance(preamble, str) and preamble.strip():
        return {"base": preamble.strip(), DEFAULT_PREAMBLE: preamble.strip()}
    if isinstance(preamble, dict) and preamble and _are_texts(list(preamble.values())):
        return {str(key): text.strip() for key, text in preamble.items()}
    raise InputError(f"{name}: 'preamble' must be a text, or texts by name (base, detailed)")


def _exemplars(
    head: Mapping[str, Any], labels: tuple[str, ...], variables: frozenset[str], name: str
) -> tuple[Exemplar, ...]:
    exemplars = head.get("exemplars") or []
    fields = [variable for variable in _VARIABLES if variable in variables - {"low", "high"}] + ["label"]
    if not isinstance(exemplars, list):
        raise InputError(f"{name}: 'exemplars' must be a list")
    for number, exemplar in enumerate(exemplars, 1):
        if not isinstance(exemplar, dict) or set(exemplar) != set(fields):
            raise InputError(f"{name}: exemplar {number} must have exactly {', '.join(fields)}")
        if not _are_texts(list(exemplar.values())):
            raise InputError(f"{name}: exemplar {number}: every field must be a quoted, non-empty text")
        if exemplar["label"] not in labels:
            raise InputError(f"{name}: exemplar {number}: label {exemplar['label']!r} is not one of {labels}")
    return tuple(
        Exemplar({key: text.rstrip("\n") for key, text in item.items() if key != "label"}, item["label"].rstrip("\n"))
        for item in exemplars
    )


def _are_texts(values: Any) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) and value.strip() for value in values)


def _one_line(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__
