"""Templates: what they render, and that every mistake in one is named with its place."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from preftree.engine import sandbox
from preftree.engine.errors import InputError
from preftree.labeling.prompts import jinja as template_body
from preftree.labeling.prompts.catalogue import (
    Template,
    conversation_text,
    load_template,
    parse_template,
    template_names,
)
from preftree.labeling.types import Message
from tests.stopwatch import within

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
    """Catches one that does not parse, that asks about the better response and inverts, or that shares badly."""
    assert {"general", "summarization", "helpfulness", "harmlessness", "direct"} <= set(template_names())
    for name in template_names():
        template = load_template(name)
        assert set(template.preambles) == {"base", "detailed"}
        assert template.warnings() == [], "long text or a principle stands where it is computed again and again"
        if template.num_responses == 2 and template.labels == ("1", "2"):
            assert template.invert == (name == "harmlessness"), "the harmlessness template asks for the worse response"
            assert {exemplar.label for exemplar in template.exemplars} == {"1", "2"}, "exemplars lean to no position"
            assert template.body.index("prompt") < template.body.index("response_1"), "the orders share the prompt"


SINGLE = GOOD.replace("    response_1: x\n    response_2: y\n", "    response: x\n")
SINGLE = SINGLE.replace("1: {{ response_1 }}\n2: {{ response_2 }}", "{{ response }}")
BARE = GOOD[: GOOD.index("exemplars")] + GOOD[GOOD.index("answer") :]
TWO_LABELS = 'labels: ["1", "2"]'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("---\ndescription", "description", "t:1: a template begins with front matter between two lines of ---"),
        ("---\nQ:", "Q:", "t:1: a template begins with front matter between two lines of ---"),
        ("description: Which is better.\n", "- a list\n", "t:3: front matter is not YAML"),
        (GOOD[4 : GOOD.index("---\nQ:")], "- a list\n", "t:2: front matter must be `key: value` lines"),
        (GOOD[4 : GOOD.index("---\nQ:")], "", "t:2: front matter is empty"),
        (TWO_LABELS, TWO_LABELS[:-1], "t:4: front matter is not YAML"),
        ("invert: false", "invert: \x07", "t:4: front matter holds the control character U+0007"),
        ("invert: false", f"invert: {'[' * 5000}", "t:2: front matter is nested too deeply"),
        ("invert: false", "system: *nothing", "t:4: front matter is not YAML: found undefined alias"),
        ("invert: false", "invert: false\nlabels: [a, b]", "t:5: front matter has 'labels' twice"),
        ("invert: false", "? [a]\n: b", "t:4: a key of front matter must be a text"),
        (
            "invert: false",
            "inverted: false",
            "t:4: unknown front matter key 'inverted'; known: answer, bos, desc",
        ),
        ("description: Which is better.\n", "", "t:2: front matter needs 'description'"),
        ("description: Which is better.", "description:", "t:2: front matter needs 'description'"),
        ("description: Which is better.", "description: !mine x", "t:2: 'description' must be a text"),
        (TWO_LABELS, "", "t:2: front matter needs 'labels', such as"),
        (TWO_LABELS, "labels: a, b", "t:3: 'labels' must be a list"),
        (TWO_LABELS, "labels:\n  - a\n  - a", "t:5: two labels are the same: 'a'"),
        (TWO_LABELS, "labels:\n  - a\n  -", "t:5: label 2 must be a non-empty text"),
        (TWO_LABELS, "labels:\n  - a\n  - [b]", "t:5: label 2 must be a text"),
        (TWO_LABELS, 'labels: ["1"]', "t:3: 'labels' must be two or more"),
        (TWO_LABELS, "labels: [a, b, c]", "t:3: 'labels' of a template with two responses must be two"),
        (TWO_LABELS, f"{TWO_LABELS}\nvalues: [1, 0]", "t:4: 'values' are for templates with one response"),
        ("invert: false", "invert: maybe", "t:4: 'invert' must be true or false"),
        ("invert: false", "invert:", "t:4: 'invert' must be true or false"),
        ("invert: false", "invert: [true]", "t:4: 'invert' must be true or false"),
        ("invert: false", "system: [x]", "t:4: 'system' must be a text"),
        ('answer: "Better: "', 'answer: " "', "t:13: 'answer' must be a non-empty text"),
        ("preamble:\n  base: Choose.\n  detailed: Choose with care.", "preamble: {}", "t:5: 'preamble' must be"),
        ("  detailed: Choose with care.", "  detailed: [x]", "t:7: preamble 'detailed' must be a text"),
        ("  detailed: Choose with care.", "  base: Choose again.", "t:7: 'preamble' has 'base' twice"),
        (
            "base: Choose.",
            "base: Judge {{ prompt }}.",
            "t:6: preamble 'base' is fixed text and cannot show {{ prompt }}",
        ),
        ("base: Choose.", "base: Judge {{- low }}.", "t:6: preamble 'base' is fixed text and cannot show {{ low }}"),
        ("exemplars:\n", "exemplars: none\n", "t:9"),
        ("  - prompt: p", "  - none", "t:10"),
        ('    label: "2"', '    label: "3"', "t:12: exemplar 1: label '3' is not one of '1', '2'"),
        ('    label: "2"\n', "", "t:9: exemplar 1 lacks 'label'"),
        ("    response_1: x", "    response_1:", "t:10: 'response_1' of exemplar 1 must be a non-empty text"),
        ("    response_1: x", "    response: x", "t:10: exemplar 1 has 'response'; it must have exactly prompt, resp"),
        ("1: {{ response_1 }}", "1: {{ response_1 }", "t:16: unexpected '}'"),
        ("1: {{ response_1 }}", "1: {{ respnse_1 }}", "t:16: unknown variable 'respnse_1'"),
        ("1: {{ response_1 }}\n", "", "t:15: the sample never shows {{ response_1 }}"),
        ("Which?", "{{ response }}", "t:15: the sample shows {{ response }} and a pair; it must be one of them"),
        ("Q: {{ prompt }}", "\n\n\nQ: {{ prmpt }}", "t:18: unknown variable 'prmpt'"),
        ("Which?", "{% for x in y %}", "t:18"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    """Catches a mistake without its line, one that is a traceback, and one that is passed over in silence."""
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        parse_template(GOOD.replace(old, new), "t")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("[1]", "t:4: 'values' must be one number for each of the 2 labels, not 1"),
        ("1", "t:4: 'values' must be a list"),
        ("[1, x]", "t:4: value 2 must be a finite number"),
        ('[1, "2"]', "t:4: value 2 must be a finite number, without quotes"),
        ("\n  - 1\n  - .inf", "t:6: value 2 must be a finite number"),
        ("[.nan, 1]", "t:4: value 1 must be a finite number"),
        ("[inf, 1]", "t:4: value 1 must be a finite number"),
        ("[1, [2]]", "t:4: value 2 must be a finite number"),
        ("[1, 9e999]", "t:4: value 2 must be a finite number"),
    ],
)
def test_values_that_are_no_numbers(values: str, message: str) -> None:
    """Catches nan and infinity, which would make every score of a run nan."""
    with pytest.raises(InputError) as caught:
        parse_template(SINGLE.replace(TWO_LABELS, f"{TWO_LABELS}\nvalues: {values}"), "t")
    assert str(caught.value).startswith(message)


def test_texts_are_read_as_they_are_written() -> None:
    """Catches labels that YAML 1.1 reads as something else: yes as true, 010 as eight, 1:30 as ninety."""
    template = parse_template(
        SINGLE.replace(TWO_LABELS, "labels: [yes, 010, 1:30, '2']\nvalues: [1, -2.5, 1e3, 0]"), "t"
    )
    assert template.labels == ("yes", "010", "1:30", "2")
    assert template.values == (1.0, -2.5, 1000.0, 0.0)
    assert template.num_responses == 1
    assert template.lines["values"] == 4


@pytest.mark.parametrize(
    ("jinja", "named"),
    [
        ("{{ prompt.__class__.__mro__ }}", "unsafe"),
        ("{{ prompt.format.__globals__ }}", "undefined|unsafe"),
        ("{{ cycler.__init__.__globals__.os }}", "unsafe|undefined"),
        ("{{ 'a' * 10**11 }}", "MemoryError"),
        ("{{ 10 ** (10 ** 9) }}", "takes more than 1 seconds"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes more than 1 seconds"),
        ("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "recursion|takes more|MemoryError"),
        ("{{ 1|center(10**11) }}", "MemoryError"),
        ("{{ 1|center(10**8) }}", "more than 67,108,864 characters|MemoryError"),
        ("{% for a in range(999) %}{{ prompt|center(99999) }}{% endfor %}", "more than 67,108,864 characters"),
        ("{% include 'x' %}", "a template is one file"),
        ("{% import 'x' as y %}", "a template is one file"),
    ],
)
def test_hostile_templates_are_cut_off(monkeypatch: pytest.MonkeyPatch, jinja: str, named: str) -> None:
    """Catches a template that runs for ever or fills the memory, even while it is compiled, or reaches Python."""
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 1)
    with within(10), pytest.raises(InputError, match=r"^t:\d+: ") as caught:
        request_text(parse_template(GOOD.replace("Which?", jinja), "t"), "q", "a", "b")
    assert re.search(named, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_goes_on_after_it_was_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches one row whose text makes a template slow, and that takes the labels of all others along."""
    monkeypatch.setattr(sandbox, "CPU_SECONDS", 1)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    template = parse_template(BARE.replace("Which?", "{% if prompt == 'slow' %}" + loops + "{% endif %}"), "t")
    quick = request_text(template, "quick", "a", "b")
    with pytest.raises(InputError, match="takes more than 1 seconds"):
        request_text(template, "slow", "a", "b")
    assert request_text(template, "quick", "a", "b") == quick


@pytest.mark.parametrize(
    "jinja",
    [
        f"{{{{ {'(' * 5000}1{')' * 5000} }}}}",
        "{% if prompt %}" * 150 + "{% endif %}" * 150,
        f"{{{{ {'9' * 5000} }}}}",
        "{{ self }}",
        "{% do prompt %}",
        "{{ prompt|nosuch }}",
    ],
)
def test_what_the_parser_cannot_take_is_one_line(jinja: str) -> None:
    """Catches a traceback from Jinja's parser, from its filters, or from Python's compiler behind it."""
    with pytest.raises(InputError, match=r"^t:\d+: "):
        parse_template(GOOD.replace("Which?", jinja), "t")


def test_an_interrupted_rendering_leaves_no_answer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the text of one row that is taken for that of the next, after a Ctrl-C that somebody caught."""
    template = parse_template(BARE.replace("Which?", "{% if 1 %}Which?{% endif %}"), "t")
    whole = request_text(template, "next", "a", "b")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("select.select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            request_text(template, "this", "a", "b")
    assert request_text(template, "next", "a", "b") == whole


def test_a_process_that_was_killed_is_one_line() -> None:
    """Catches a broken pipe, and a row that ends the run because the system was short of memory."""
    template = parse_template(BARE.replace("Which?", "{% if 1 %}Which?{% endif %}"), "t")
    whole = request_text(template, "q", "a", "b")
    process = template.sample._sandbox._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(InputError, match="takes more than 3 seconds"):
        request_text(template, "q" * 1_000_000, "a", "b")
    assert request_text(template, "q", "a", "b") == whole


@pytest.mark.parametrize(
    ("jinja", "shown"),
    [
        ("{% if prompt|length > 3 and low in ['1'] %}long{% else %}short{% endif %}", "long"),
        ("{% if principle is defined %}p{% elif low == '1' %}one{% endif %}", "one"),
        ("{% for word in prompt.split() %}{{ loop.index }}:{{ word|upper }} {% endfor %}", "1:MUCH 2:ADO "),
        ("{% set n = prompt|wordcount %}{{ n * 2 }}", "4"),
        ("{{ prompt|replace('u', 'U')|truncate(4, True, '', 0) }}", "mUch"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(prompt) }}", "<much ado>"),
        ("{% filter upper %}x{% endfilter %}{# no #}{% raw %}{{ x }}{% endraw %}", "X{{ x }}"),
    ],
)
def test_templates_can_compute(jinja: str, shown: str) -> None:
    """Catches a guard so strict that a conversation cannot have a heading of its own."""
    template = parse_template(BARE.replace("Which?", jinja), "t")
    assert request_text(template, "much ado", " a ", "b").endswith(f"\n2: b\n{shown}")


@pytest.mark.parametrize("text", ["{{ 7 * 7 }}", "{% raw %}", "{# #}", "\udc80", "\x00\n", "漢字 😀", "</s>", '"\\'])
def test_text_is_never_a_template_in_the_process_either(text: str) -> None:
    """As above, where the template is run."""
    template = parse_template(GOOD.replace("Which?", "{% if 1 %}Which?{% endif %}"), "t")
    assert request_text(template, text, text, text) == f"Choose.\n\nQ: {text}\n1: {text}\n2: {text}\nWhich?"


def test_both_ways_to_render_agree() -> None:
    """Catches a blank line, a comment or a missing variable that is told otherwise where nothing need be run."""
    bodies = [" {{- prompt -}} \n y", "{# no #}\n\n{{ low }}{{ high }}", "{{ principle }}", "{{ prompt }}\n{#- -#}\nz"]
    for jinja in bodies:
        said = []
        for run in ("", "{% if 1 %}{% endif %}"):
            template = parse_template(BARE.replace("Which?", jinja + run), "t")
            try:
                said.append(request_text(template, "q", "a", "b"))
            except InputError as error:
                said.append(str(error))
        assert said[0] == said[1]


def test_what_fails_at_run_time_names_its_line() -> None:
    """Catches a template for principles that is used without one, reported without its place."""
    template = parse_template(BARE.replace("Which?", "\nBy {{ principle }}?"), "t")
    with pytest.raises(InputError, match=r"^t:14: the template fails \('principle' is undefined\)$"):
        request_text(template, "q", "a", "b")


def test_what_is_shown_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a template of many places that turns one long row into many gigabytes, held before they are counted."""
    monkeypatch.setattr(template_body, "MAX_SAMPLE_CHARACTERS", 1_000_000)
    template = parse_template(GOOD.replace("Which?", "{{ prompt }}" * 5000), "t")
    tracemalloc.start()
    with pytest.raises(InputError, match=r"renders more than 1,000,000 characters"):
        request_text(template, "x" * 10_000, "a", "b")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


PRINCIPLE = GOOD.replace("    label:", "    principle: be\n    label:")


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (GOOD, False),
        (PRINCIPLE.replace("Which?", "By {{ principle }}, which response to the prompt?"), True),
        (PRINCIPLE.replace("Q: ", "{{ principle }} Q: "), False),
        (PRINCIPLE.replace("Which?", "{{ principle }}{% if prompt %}x{% endif %}"), False),
        (PRINCIPLE.replace("Q: ", "{{ principle }} Q: ").replace("Which?", "{{ principle }}"), False),
        (PRINCIPLE.replace("Which?", "{{ principle }} ({{ low }} or {{ high }})"), True),
    ],
)
def test_principle_is_last(text: str, last: bool) -> None:
    """Catches words in fixed text that are taken for variables, and a first mention that is overlooked."""
    assert parse_template(text, "t").principle_is_last == last


def test_warnings_name_what_is_computed_again() -> None:
    """Catches long instructions behind the sample, which no prompt shares with another, that nobody hears of."""
    assert parse_template(GOOD.replace("Which?", "x" * 190), "t").warnings() == []
    assert parse_template(GOOD.replace("Q:", "x" * 5000), "t").warnings() == [], "in front it is shared"
    [late] = parse_template(GOOD.replace("Which?", "\n".join(["x" * 99] * 3)), "t").warnings()
    assert late.startswith("t:17: 300 characters of fixed text come after a variable")
    [between] = parse_template(GOOD.replace("1: {{", "x" * 250 + " {{"), "t").warnings()
    assert between.startswith("t:15: 252 characters of fixed text")
    [early] = parse_template(PRINCIPLE.replace("Q: ", "\n{{ principle }} Q: "), "t").warnings()
    assert early.startswith("t:17: {{ principle }} does not come last")


def test_files(tmp_path: Path) -> None:
    """Catches files as some editors save them, with a byte order mark or carriage returns, and those that are none."""
    path = tmp_path / "mine.txt"
    for start in ("", "\ufeff"):
        path.write_text(start + GOOD.replace("\n", "\r\n"), encoding="utf-8", newline="")
        template = load_template(str(path))
        assert template.labels == ("1", "2")
        assert request_text(template, "q", "a", "b") == "Choose.\n\nQ: q\n1: a\n2: b\nWhich?"
    for name, message in (("nowhere", "nor one of: direct, direct-yes-no, general"), (str(tmp_path), "neither a file")):
        with pytest.raises(InputError, match=message):
            load_template(name)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        load_template(str(path))


def test_unknown_preamble_and_too_many_exemplars() -> None:
    """Catches an option that the template cannot follow, told without the place where it could be added."""
    template = parse_template(GOOD, "t")
    with pytest.raises(InputError, match=r"^t:5: there is no preamble 'long'; it has base, detailed$"):
        template.request(user("q"), "a", "b", preamble="long", exemplars=0)
    with pytest.raises(InputError, match=r"^t:8: it has 1 exemplar, 2 were asked for$"):
        template.request(user("q"), "a", "b", preamble="base", exemplars=2)
