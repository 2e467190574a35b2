"""A template that calls the two responses by other names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from preftree.labeling.prompts.jinja import Body
from preftree.labeling.prompts.template import Template

_JINJA = r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}"


def relabelled(template: Template, labels: tuple[str, str]) -> Template | None:
    """The template with these labels, in its own words and as what the judge answers. Texts of exemplars stay.

    None where its words do not permit that: they have these labels already, or do not hold both old ones equally
    often, so that one of them means something else somewhere.
    """
    old = tuple(label.strip() for label in template.labels)
    if len(old) != 2 or set(old) & set(labels):
        return None
    # A word's token holds the space before it, a digit's does not.
    space = "" if labels[0].isdigit() else " "
    spaced = tuple(f"{space}{label}" for label in labels)
    of_exemplar = dict(zip(template.labels, spaced, strict=True))
    found: dict[str, int] = dict.fromkeys(old, 0)
    renamed = _renaming(dict(zip(old, labels, strict=True)), found)

    def body(part: Body) -> Body:
        return replace(part, source=renamed(part.source)).checked()

    other = replace(
        template,
        labels=spaced,
        system=None if template.system is None else renamed(template.system),
        preambles={name: renamed(text) for name, text in template.preambles.items()},
        exemplars=tuple(replace(one, label=of_exemplar.get(one.label, one.label)) for one in template.exemplars),
        answer=body(_spaced(template, "" if space else " ")),
        sample=body(template.sample),
        exemplar_heading=template.exemplar_heading and body(template.exemplar_heading),
        sample_heading=template.sample_heading and body(template.sample_heading),
    )
    first, second = found.values()
    return other if first == second > 0 else None


def _spaced(template: Template, space: str) -> Body:
    """The started answer, ending with `space` where there was any between it and the label."""
    answer = template.answer
    there = answer.source.endswith(" ") or template.labels[0].startswith(" ")
    return replace(answer, source=answer.source.removesuffix(" ") + space) if there else answer


def closing_of(template: Template) -> str:
    """The fixed text after the last place of the sample that shows something of the row."""
    texts: list[str] = []
    for piece in template.sample.pieces:
        texts = [] if piece.names else [*texts, piece.text]
    return "".join(texts)


def _renaming(names: Mapping[str, str], found: dict[str, int]) -> Callable[[str], str]:
    """Puts new names in the place of old ones that stand alone, and counts them. What is Jinja's stays."""
    alone = "|".join(map(re.escape, names))
    pattern = re.compile(rf"({_JINJA})|(?<!\w)({alone})(?!\w)", re.DOTALL)

    def renamed(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[1]
        found[match[2]] += 1
        return names[match[2]]

    return lambda text: pattern.sub(renamed, text)
