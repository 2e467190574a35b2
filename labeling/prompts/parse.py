"""From a template file's text to a `Template`; every mistake is named with its line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from yaml import MappingNode, Node

from preftree.engine.errors import InputError
from preftree.labeling.prompts.answering import Exemplar, Explaining
from preftree.labeling.prompts.jinja import PAIR, PRINCIPLE, ROW, SCALE, VARIABLES, Body
from preftree.labeling.prompts.template import DEFAULT_PREAMBLE, Template
from preftree.labeling.types import SEAM
from preftree.labeling.yaml_file import FrontMatter

_KEYS = (
    *("description", "labels", "values", "invert", "system", "bos", "preamble", "exemplar_heading", "exemplars"),
    *("sample_heading", "seam", "answer", "rationale"),
)
_RATIONALE_KEYS = ("ask", "start", "ending", "stop")
# Not prompt and responses: what they say would be put into the judge's mouth.
_OF_ANSWERS = (*PRINCIPLE, *SCALE, ROW)
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
    sample = Body(rest.strip("\n"), name, ends[1] + 2 + _leading_newlines(rest)).checked()
    _check_responses(sample)
    labels = _labels(head, sample)
    answer = _part(head, head.need("answer"), "'answer'")
    explaining = _explaining(head, answer)
    return Template(
        name=name,
        source=source,
        description=head.scalar(head.need("description"), "'description'"),
        labels=labels,
        values=_values(head, labels, sample),
        invert=head.flag("invert"),
        system=None if (system := head.get("system")) is None else _fixed(head, system, "'system'"),
        preambles=_preambles(head),
        exemplars=_exemplars(head, labels, (sample, answer, *(explaining.parts if explaining else ()))),
        answer=answer,
        explaining=explaining,
        sample=sample,
        lines=head.lines,
        seam=_seam(head),
        bos=None if head.get("bos") is None else head.flag("bos"),
        exemplar_heading=_heading(head, "exemplar_heading"),
        sample_heading=_heading(head, "sample_heading"),
    )


def _leading_newlines(text: str) -> int:
    return len(text) - len(text.lstrip("\n"))


def _check_responses(sample: Body) -> None:
    shown = sample.variables
    if "response" in shown and shown & set(PAIR):
        raise sample.error(1, "the sample shows {{ response }} and a pair; it must be one of them")
    for variable in () if "response" in shown else PAIR:
        if variable not in shown:
            raise sample.error(1, f"the sample never shows {{{{ {variable} }}}}")


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
    """A single preamble, or none, serves under every name."""
    node = head.get("preamble")
    if not isinstance(node, MappingNode):
        is_empty = node is None or not head.text(node, "'preamble'")
        text = "" if node is None or is_empty else _fixed(head, node, "'preamble'").strip()
        return {"base": text, DEFAULT_PREAMBLE: text}
    entries = head.entries(node, "'preamble'")
    if not entries:
        raise head.error(node, "'preamble' must be a text, or texts by name (base, detailed)")
    return {key: _fixed(head, entry, f"preamble {key!r}").strip() for key, entry in entries.items()}


def _exemplars(head: FrontMatter, labels: tuple[str, ...], parts: Sequence[Body]) -> tuple[Exemplar, ...]:
    """parts: those that show an exemplar's variables."""
    node = head.get("exemplars")
    shown = frozenset[str]().union(*(part.variables for part in parts)) - set(SCALE)
    fields = [variable for variable in VARIABLES if variable in shown] + sorted(shown - set(VARIABLES))
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


def _heading(head: FrontMatter, key: str) -> Body | None:
    node = head.get(key)
    return None if node is None else _part(head, node, f"{key!r}", ("number",))


def _seam(head: FrontMatter) -> str:
    """White space: a chat template puts its own in the place of a seam, and nothing else may be lost with it."""
    node = head.get("seam")
    if node is None:
        return SEAM
    text = head.text(node, "'seam'")
    if text.strip():
        raise head.error(node, '\'seam\' must be white space between quotes, such as "\\n", or "" for nothing')
    return text


def _explaining(head: FrontMatter, answer: Body) -> Explaining | None:
    """The answer comes behind a blank line where the file does not say what stands there."""
    node = head.get("rationale")
    if node is None:
        return None
    entries = head.entries(node, "'rationale'")
    for key, entry in entries.items():
        if key not in _RATIONALE_KEYS:
            raise head.error(entry, f"'rationale' has {key!r}; known: {', '.join(_RATIONALE_KEYS)}")
    if "start" not in entries:
        raise head.error(node, "'rationale' lacks 'start'")
    parts = {key: _part(head, entry, f"{key!r} of 'rationale'") for key, entry in entries.items() if key != "stop"}
    stop = head.items(entries["stop"], "'stop' of 'rationale'") if "stop" in entries else []
    return Explaining(
        ask=replace(parts["ask"], source=parts["ask"].source.strip()) if "ask" in parts else None,
        start=parts["start"],
        ending=parts.get("ending", replace(answer, source=f"\n\n{answer.source}", is_folded=True)),
        stop=tuple(_fixed(head, item, f"stop {number} of 'rationale'") for number, item in enumerate(stop, 1)),
    )


def _part(head: FrontMatter, node: Node, what: str, known: tuple[str, ...] = _OF_ANSWERS) -> Body:
    """A part of the front matter that may show the variables `known`."""
    text = head.scalar(node, what)
    is_literal = getattr(node, "style", None) == "|"
    return Body(text, head.name, head.line(node) + is_literal, known, what, is_folded=not is_literal).checked()


def _fixed(head: FrontMatter, node: Node, what: str) -> str:
    """A text that has no variables: a variable in it would be shown to the judge in its braces."""
    text = head.scalar(node, what)
    if found := _PLACE.search(text):
        place = f"{{{{ {found[1]} }}}}"
        raise head.error(
            node,
            f"{what} is fixed text and cannot show {place}; variables belong below the front matter, or into 'answer'",
        )
    return text
