"""From a template file's text to a `Template`; every mistake is named with its line."""

from __future__ import annotations

import re

from yaml import MappingNode, Node

from preftree.engine.errors import InputError
from preftree.labeling.prompts.jinja import SCALE, VARIABLES, Body
from preftree.labeling.prompts.template import DEFAULT_PREAMBLE, Exemplar, Explaining, Template
from preftree.labeling.yaml_file import FrontMatter

_KEYS = ("description", "labels", "values", "invert", "system", "preamble", "exemplars", "answer", "rationale")
_RATIONALE_KEYS = ("ask", "start", "ending", "stop")
_PLACE = re.compile(rf"\{{\{{-?\s*({'|'.join(VARIABLES)})\b")


def parse_template(source: str, name: str) -> Template:
    """Parse a template file's text; `name` is used in messages. InputError with the line of whatever is wrong."""
    lines = source.split("\n")
    ends = [number for number, line in enumerate(lines) if line.rstrip() == "---"]
    if len(ends) < 2 or ends[0] != 0:
        raise InputError(f"{name}:1: a template begins with front matter between two lines of ---")
    head = FrontMatter("\n".join(lines[1 : ends[1]]), name, first_line=2)
    head.check_keys(_KEYS)
    rest = "\n".join(lines[ends[1] + 1 :])
    sample = Body.checked(rest.strip("\n"), name, ends[1] + 2 + _leading_newlines(rest))
    labels = _labels(head, sample)
    answer = _fixed(head, head.need("answer"), "'answer'")
    return Template(
        name=name,
        source=source,
        description=head.scalar(head.need("description"), "'description'"),
        labels=labels,
        values=_values(head, labels, sample),
        invert=head.flag("invert"),
        system=None if (system := head.get("system")) is None else _fixed(head, system, "'system'"),
        preambles=_preambles(head),
        exemplars=_exemplars(head, labels, sample),
        answer=answer,
        explaining=_explaining(head, answer),
        sample=sample,
        lines=head.lines,
    )


def _leading_newlines(text: str) -> int:
    return len(text) - len(text.lstrip("\n"))


def _labels(head: FrontMatter, sample: Body) -> tuple[str, ...]:
    node = head.need("labels", 'such as ["1", "2"]')
    labels: list[str] = []
    for number, item in enumerate(head.items(node, "'labels'"), 1):
        label = head.scalar(item, f"label {number}")
        if label in labels:
            raise head.error(item, f"two labels are the same: {label!r}")
        labels.append(label)
    if len(labels) < 2:
        raise head.error(node, '\'labels\' must be two or more, such as ["1", "2"]')
    if len(labels) != 2 and "response" not in sample.variables:
        raise head.error(node, '\'labels\' of a template with two responses must be two, such as ["1", "2"]')
    return tuple(labels)


def _values(head: FrontMatter, labels: tuple[str, ...], sample: Body) -> tuple[float, ...] | None:
    node = head.get("values")
    if node is None:
        return None
    if "response" not in sample.variables:
        raise head.error(node, "'values' are for templates with one response; labels of a pair name one of two")
    items = head.items(node, "'values'")
    if len(items) != len(labels):
        raise head.error(node, f"'values' must be one number for each of the {len(labels)} labels, not {len(items)}")
    return tuple(head.number(item, f"value {number}") for number, item in enumerate(items, 1))


def _preambles(head: FrontMatter) -> dict[str, str]:
    """A single preamble serves under every name."""
    node = head.need("preamble", "a text, or texts by name (base, detailed)")
    if not isinstance(node, MappingNode):
        text = _fixed(head, node, "'preamble'").strip()
        return {"base": text, DEFAULT_PREAMBLE: text}
    entries = head.entries(node, "'preamble'")
    if not entries:
        raise head.error(node, "'preamble' must be a text, or texts by name (base, detailed)")
    return {key: _fixed(head, entry, f"preamble {key!r}").strip() for key, entry in entries.items()}


def _exemplars(head: FrontMatter, labels: tuple[str, ...], sample: Body) -> tuple[Exemplar, ...]:
    node = head.get("exemplars")
    fields = [variable for variable in VARIABLES if variable in sample.variables - set(SCALE)]
    solved = []
    for number, item in enumerate(head.items(node, "'exemplars'") if node else [], 1):
        what = f"exemplar {number}"
        entries = head.entries(item, what)
        for key, entry in entries.items():
            if key not in (*fields, "label", "rationale"):
                must = f"{', '.join((*fields, 'label'))}, and may have rationale"
                raise head.error(entry, f"{what} has {key!r}; it must have exactly {must}")
        if missing := [field for field in (*fields, "label") if field not in entries]:
            raise head.error(item, f"{what} lacks {missing[0]!r}")
        texts = {key: head.scalar(entry, f"{key!r} of {what}").rstrip("\n") for key, entry in entries.items()}
        label, rationale = texts.pop("label"), texts.pop("rationale", None)
        if label not in labels:
            raise head.error(entries["label"], f"{what}: label {label!r} is not one of {', '.join(map(repr, labels))}")
        solved.append(Exemplar(texts, label, rationale))
    return tuple(solved)


def _explaining(head: FrontMatter, answer: str) -> Explaining | None:
    """The answer comes behind a blank line where the file does not say what stands there."""
    node = head.get("rationale")
    if node is None:
        return None
    entries = head.entries(node, "'rationale'")
    for key, entry in entries.items():
        if key not in _RATIONALE_KEYS:
            raise head.error(entry, f"'rationale' has {key!r}; known: {', '.join(_RATIONALE_KEYS)}")
    if missing := [key for key in ("ask", "start") if key not in entries]:
        raise head.error(node, f"'rationale' lacks {missing[0]!r}")
    texts = {key: _fixed(head, entry, f"{key!r} of 'rationale'") for key, entry in entries.items() if key != "stop"}
    stop = head.items(entries["stop"], "'stop' of 'rationale'") if "stop" in entries else []
    return Explaining(
        ask=texts["ask"].strip(),
        start=texts["start"],
        ending=texts.get("ending", f"\n\n{answer}"),
        stop=tuple(_fixed(head, item, f"stop {number} of 'rationale'") for number, item in enumerate(stop, 1)),
    )


def _fixed(head: FrontMatter, node: Node, what: str) -> str:
    """A text outside the sample: a variable in it would be shown to the judge in its braces."""
    text = head.scalar(node, what)
    if found := _PLACE.search(text):
        place = f"{{{{ {found[1]} }}}}"
        raise head.error(node, f"{what} is fixed text and cannot show {place}; variables belong below the front matter")
    return text
