"""Templates: what they render, and that every mistake in one is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InputError
from labeling.prompts import Template, conversation_text, load_template, parse_template, template_names
from labeling.types import Message

GOOD = """---
description: Which is better.
labels: ["1", "2"]
invert: false
preamble:
  base: Choose.
  detailed: Choose with care.
exemplars:
  - prompt: p
    response_1: x
    response_2: y
    label: "2"
answer: "Better: "
---
Q: {{ prompt }}
1: {{ response_1 }}
2: {{ response_2 }}
Which?
"""


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def request_text(template: Template, prompt: str, first: str, second: str, exemplars: int = 0) -> str:
    return template.request(user(prompt), first, second, preamble="base", exemplars=exemplars).user


def test_a_request_is_preamble_exemplars_sample() -> None:
    request = parse_template(GOOD, "t").request(user("q"), "a", "b", preamble="detailed", exemplars=1)
    shown = "Q: p\n1: x\n2: y\nWhich?\n\nBetter: 2"
    assert request.user == f"Choose with care.\n\n{shown}\n\nQ: q\n1: a\n2: b\nWhich?"
    assert request.answer_start == "Better: "
    assert request.labels == ("1", "2")
    assert request.system is None


@pytest.mark.parametrize(
    "text", ["{{ 7 * 7 }}", "{% raw %}", "{# #}", "}}{{", "{{ prompt }}", "---", "<|im_end|>", "\x00"]
)
def test_text_is_never_a_template(text: str) -> None:
    """Braces, Jinja and control strings inside a pair are shown as they are."""
    rendered = request_text(parse_template(GOOD, "t"), text, text, text)
    assert rendered == f"Choose.\n\nQ: {text}\n1: {text}\n2: {text}\nWhich?"


def test_conversations() -> None:
    assert conversation_text(user("hello")) == "hello"
    turns = (Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "?"))
    assert conversation_text(turns) == "System: Be kind.\n\nUser: Hi\n\nAssistant: Hello!\n\nUser: ?"


def test_built_in_templates() -> None:
    assert template_names() == ["general", "harmlessness", "helpfulness", "summarization"]
    for name in template_names():
        template = load_template(name)
        assert template.invert == (name == "harmlessness"), "the harmlessness template asks for the worse response"
        assert set(template.preambles) == {"base", "detailed"}
        assert len(template.exemplars) == 2
        assert {exemplar.label for exemplar in template.exemplars} == {"1", "2"}, "exemplars lean to no position"
        assert template.body.index("prompt") < template.body.index("response_1"), "the orders share the prompt"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("---\ndescription", "description", "t:1: a template begins with front matter"),
        ('labels: ["1", "2"]', 'labels: ["1", "2"', "t:4: front matter is not YAML"),
        ('labels: ["1", "2"]', "labels: [1, 2]", '"labels" must be two or more quoted texts'),
        ('labels: ["1", "2"]', 'labels: ["1", "1"]', "two labels are the same"),
        ('labels: ["1", "2"]', 'labels: ["1"]', '"labels" must be two'),
        ("invert: false", "invert: maybe", "'invert' must be true or false"),
        ("invert: false", "inverted: false", "unknown front matter key 'inverted'"),
        ("description: Which is better.", "description:", "front matter needs 'description'"),
        ('answer: "Better: "', "answer: 3", "front matter needs 'answer'"),
        ("preamble:\n  base: Choose.\n  detailed: Choose with care.", "preamble: {}", "'preamble' must be"),
        ('    label: "2"', '    label: "3"', "exemplar 1: label '3' is not one of"),
        ('    label: "2"\n', "", "exemplar 1 must have exactly"),
        ("1: {{ response_1 }}", "1: {{ response_1 }", "t:16: unexpected '}'"),
        ("1: {{ response_1 }}", "1: {{ respnse_1 }}", "t:16: unknown variable 'respnse_1'"),
        ("1: {{ response_1 }}\n", "", "the sample never shows {{ response_1 }}"),
        ("Which?", "{% for x in y %}", "t:18"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        parse_template(GOOD.replace(old, new), "t")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("expression", ["prompt.__class__.__mro__", "cycler.__init__.__globals__", "range(10**9)|list"])
def test_templates_are_sandboxed(expression: str) -> None:
    template = parse_template(GOOD.replace("Which?", f"{{{{ {expression} if prompt else response_1 }}}}"), "t")
    with pytest.raises(InputError, match="template t: cannot be rendered"):
        request_text(template, "q", "a", "b")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(GOOD)
    assert load_template(str(path)).labels == ("1", "2")
    for name, message in (("nowhere", "neither a file nor one of: general"), (str(tmp_path), "neither a file")):
        with pytest.raises(InputError, match=message):
            load_template(name)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        load_template(str(path))


def test_unknown_preamble_and_too_many_exemplars() -> None:
    template = parse_template(GOOD, "t")
    with pytest.raises(InputError, match="no preamble 'long'; it has base, detailed"):
        template.request(user("q"), "a", "b", preamble="long", exemplars=0)
    with pytest.raises(InputError, match="has 1 exemplars, 2 were asked for"):
        template.request(user("q"), "a", "b", preamble="base", exemplars=2)
