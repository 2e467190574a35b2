"""Prompt templates: text files that turn a pair into what a judge reads.

A template file is YAML front matter between two lines of `---`, then the sample in Jinja:

    ---
    description: Which of two answers is better.
    labels: ["1", "2"]              # what the judge answers when the first, the second response is preferred
    invert: false                   # true where the judge is asked for the WORSE response
    system: null                    # optional system text
    preamble:                       # one text, or several by name; chosen with --preamble
      base: ...
      detailed: ...
    exemplars: []                   # optional; each with prompt, response_1, response_2, label
    answer: "Preferred response: "  # the judge's answer up to the label
    ---
    Question: {{ prompt }}
    ...{{ response_1 }}...{{ response_2 }}

The prompt is the preamble, the exemplars with their answers, the sample, and the started answer.
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
_SAMPLE_FIELDS = ("prompt", "response_1", "response_2")
_KEYS = frozenset({"description", "labels", "invert", "system", "preamble", "exemplars", "answer"})
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=False)


@dataclass(frozen=True)
class Exemplar:
    """A solved sample shown before the real one."""

    prompt: str
    response_1: str
    response_2: str
    label: str


@dataclass(frozen=True)
class Template:
    """A parsed template file. name: for messages. source: the whole file. body: the sample, in Jinja."""

    name: str
    source: str
    description: str
    labels: tuple[str, str]
    invert: bool
    system: str | None
    preambles: Mapping[str, str]
    exemplars: tuple[Exemplar, ...]
    answer: str
    body: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    @cached_property
    def _compiled(self) -> jinja2.Template:
        return _ENVIRONMENT.from_string(self.body)

    def request(
        self, prompt: Sequence[Message], first: str, second: str, *, preamble: str, exemplars: int
    ) -> ScoreRequest:
        """The request that shows `first` before `second`, behind the first `exemplars` exemplars."""
        if preamble not in self.preambles:
            raise InputError(f"template {self.name} has no preamble {preamble!r}; it has {', '.join(self.preambles)}")
        if not 0 <= exemplars <= len(self.exemplars):
            raise InputError(f"template {self.name} has {len(self.exemplars)} exemplars, {exemplars} were asked for")
        parts = [self.preambles[preamble]]
        for shown in self.exemplars[:exemplars]:
            sample = self._sample(shown.prompt, shown.response_1, shown.response_2)
            parts.append(f"{sample}\n\n{self.answer}{shown.label}")
        parts.append(self._sample(conversation_text(prompt), first, second))
        return ScoreRequest("\n\n".join(parts), self.answer, self.labels, self.system)

    def _sample(self, prompt: str, response_1: str, response_2: str) -> str:
        try:
            return self._compiled.render(prompt=prompt, response_1=response_1, response_2=response_2)
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


def parse_template(source: str, name: str) -> Template:
    """Parse a template file's text; `name` is used in messages."""
    lines = source.split("\n")
    if lines[0].rstrip() != "---" or "---" not in (line.rstrip() for line in lines[1:]):
        raise InputError(f"{name}:1: a template begins with front matter between two lines of ---")
    end = next(number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---")
    head = _front_matter("\n".join(lines[1:end]), name)
    body = "\n".join(lines[end + 1 :]).strip("\n")
    _check_body(body, name, first_line=end + 2)
    labels = _labels(head, name)
    return Template(
        name=name,
        source=source,
        description=_text(head, "description", name),
        labels=labels,
        invert=_flag(head, "invert", name),
        system=_text(head, "system", name) if head.get("system") is not None else None,
        preambles=_preambles(head, name),
        exemplars=_exemplars(head, labels, name),
        answer=_text(head, "answer", name),
        body=body,
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


def _check_body(body: str, name: str, first_line: int) -> None:
    try:
        used = jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(body))
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{name}:{first_line + error.lineno - 1}: {_one_line(error)}") from None
    for variable in sorted(used - set(_SAMPLE_FIELDS)):
        line = first_line + next((i for i, text in enumerate(body.split("\n")) if variable in text), 0)
        raise InputError(f"{name}:{line}: unknown variable {variable!r}; known: {', '.join(_SAMPLE_FIELDS)}")
    for variable in ("response_1", "response_2"):
        if variable not in used:
            raise InputError(f"{name}:{first_line}: the sample never shows {{{{ {variable} }}}}")


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


def _labels(head: Mapping[str, Any], name: str) -> tuple[str, str]:
    labels = head.get("labels")
    if not _are_texts(labels) or len(labels) != 2:
        raise InputError(f'{name}: "labels" must be two quoted texts, such as ["1", "2"]')
    if labels[0] == labels[1]:
        raise InputError(f"{name}: the two labels are the same: {labels[0]!r}")
    return labels[0], labels[1]


def _preambles(head: Mapping[str, Any], name: str) -> dict[str, str]:
    """A single preamble serves under every name."""
    preamble = head.get("preamble")
    if isinstance(preamble, str) and preamble.strip():
        return {"base": preamble.strip(), DEFAULT_PREAMBLE: preamble.strip()}
    if isinstance(preamble, dict) and preamble and _are_texts(list(preamble.values())):
        return {str(key): text.strip() for key, text in preamble.items()}
    raise InputError(f"{name}: 'preamble' must be a text, or texts by name (base, detailed)")


def _exemplars(head: Mapping[str, Any], labels: tuple[str, str], name: str) -> tuple[Exemplar, ...]:
    exemplars = head.get("exemplars") or []
    fields = (*_SAMPLE_FIELDS, "label")
    if not isinstance(exemplars, list):
        raise InputError(f"{name}: 'exemplars' must be a list")
    for number, exemplar in enumerate(exemplars, 1):
        if not isinstance(exemplar, dict) or set(exemplar) != set(fields):
            raise InputError(f"{name}: exemplar {number} must have exactly {', '.join(fields)}")
        if not _are_texts(list(exemplar.values())):
            raise InputError(f"{name}: exemplar {number}: every field must be a quoted, non-empty text")
        if exemplar["label"] not in labels:
            raise InputError(f"{name}: exemplar {number}: label {exemplar['label']!r} is not one of {labels}")
    return tuple(Exemplar(**{key: value.rstrip("\n") for key, value in item.items()}) for item in exemplars)


def _are_texts(values: Any) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) and value.strip() for value in values)


def _one_line(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__
