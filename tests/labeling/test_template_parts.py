"""Parts of a template besides the sample: variables in answers and exemplars, headings, seams, BOS, errors."""

from __future__ import annotations

from typing import Any

import pytest

from preftree.engine.errors import InputError, ModelError
from preftree.engine.generation import Sampling
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.tokenizer import Tokenizer
from preftree.labeling.judge.encoding import RequestEncoder
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.salmon import Salmon
from preftree.labeling.principles.principle import Principle
from preftree.labeling.prompts.catalogue import parse_template
from preftree.labeling.prompts.imitation import Imitations
from preftree.labeling.types import Message, Pair, ScoreRequest
from tests.models import tokenizer_data

ASPECT = """---
description: Which is better in one respect.
labels: ["a", "b"]
exemplar_heading: ">>> Example {{ number }} >>>"
exemplars:
  - prompt: p
    response_1: x
    response_2: y
    row.title: T
    principle: Be brief.
    principle_name: Brevity
    rationale: x is shorter.
    label: a
sample_heading: ">>> Now follow the example(s) >>>"
seam: "\\n"
answer: "The one with more {{ principle_name }} from {{ low }} to {{ high }} is ("
rationale:
  start: "On {{ principle_name }}, and \\"{{ row.title }}\\":"
  ending: "\\nSo more {{ principle_name }} has ("
---
Q: {{ prompt }}
a: {{ response_1 }}
b: {{ response_2 }}
({{ row.title }}) {{ principle_name }}: {{ principle }}
"""
PAIR = Pair("one", (Message("user", "q"),), "left", "right", extra={"title": "Mine"})
PRINCIPLES = tuple(Principle(name, f"Be {name}.") for name in ("kind", "terse", "warm"))


def asked(source: str = ASPECT, exemplars: int = 0, reasoning: Sampling | None = None) -> ScoreRequest:
    method = Salmon(parse_template(source, "t"), PRINCIPLES, exemplars=exemplars, preamble="base", reasoning=reasoning)
    return method.requests(PAIR)[0]


def test_every_part_knows_the_principle_and_the_row() -> None:
    """Catches a name that one part shows as braces, or an exemplar that is answered with the name of another row."""
    sample = "Q: q\na: left\nb: right\n(Mine) kind: Be kind."
    assert asked().user == sample
    assert asked().answer_start == "The one with more kind from a to b is ("
    shown = "Q: p\na: x\nb: y\n(T) Brevity: Be brief."
    solved = (
        f">>> Example 1 >>>\n\n{shown}\nThe one with more Brevity from a to b is (a\n\n>>> Now follow the example(s)"
    )
    assert asked(exemplars=1).user == f"{solved} >>>\n\n{sample}"


def test_rationales_without_ask() -> None:
    """Catches a blank line where nothing is asked, and a start or an ending that is not filled."""
    request = asked(exemplars=1, reasoning=Sampling(max_new_tokens=3))
    explained = 'On Brevity, and "T": x is shorter.\nSo more Brevity has (a'
    assert f"(T) Brevity: Be brief.\n{explained}\n\n>>> Now" in request.user
    assert request.user.endswith("(Mine) kind: Be kind.")
    assert request.answer_start == 'On kind, and "Mine":'
    assert request.rationale is not None
    assert request.rationale.ending == "\nSo more kind has ("


def test_a_name_in_the_answer_comes_last() -> None:
    """Catches a warning about what is shared as well as it can be, and silence about a name that comes early."""
    assert parse_template(ASPECT, "t").principle_is_last
    assert parse_template(ASPECT, "t").warnings() == []
    only = ASPECT.replace("{{ principle_name }}: {{ principle }}\n", "")
    only = only.replace("    principle: Be brief.\n", "")
    assert parse_template(only, "t").principle_is_last, "shown by the answer alone"
    early = parse_template(ASPECT.replace("Q: {{", "{{ principle_name }}: {{"), "t")
    assert not early.principle_is_last
    assert early.warnings()[0].startswith("t:21: {{ principle_name }} does not come last")
    late = parse_template(ASPECT.replace("e }}: {{ principle }}", "e }}: {{ principle }} {{ row.url }}").replace(
        "    row.title: T\n", "    row.title: T\n    row.url: U\n"), "t")  # fmt: skip
    assert not late.principle_is_last


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("answer: \"The one with more {{ principle_name }}", "answer: \"More {{ principel }}",
         "t:16: 'answer': unknown variable 'principel'; known: principle, principle_name, low, high, row.COLUMN"),
        ("answer: \"The one with more {{ principle_name }}", "answer: \"{{ response_1 }}",
         "t:16: 'answer': unknown variable 'response_1'; known: principle,"),
        ("answer: \"The one with more {{ principle_name }}", "answer: \"More {{ principle_name }",
         "t:16: 'answer': unexpected '}'"),
        ("On {{ principle_name }}", "On {{ name }}", "t:18: 'start' of 'rationale': unknown variable 'name'; known: "),
        ("So more {{ principle_name }}", "So {{ prompt }}", "t:19: 'ending' of 'rationale': unknown variable 'prompt'"),
        ("Example {{ number }}", "Example {{ n }}", "t:4: 'exemplar_heading': unknown variable 'n'; known: number"),
        ("Now follow", "{{ row.title }}", "t:14: 'sample_heading': unknown variable 'row'; known: number"),
        ("Q: {{ prompt }}", "{{ row }}", "t:21: row needs a column's name, such as {{ row.title }}"),
        ("Q: {{ prompt }}", "{{ row.items }}", "t:21: row needs a column's name"),
        ("Q: {{ prompt }}", "{% for c in row %}{% endfor %}", "t:21: row needs a column's name"),
        ("Q: {{ prompt }}", "{{ row[prompt] }}", "t:21: row needs a column's name"),
        ("Q: {{ prompt }}", "{{ rows.title }}", "t:21: unknown variable 'rows'; known: prompt, response_1, response_2, "
         "response, principle, principle_name, low, high, row.COLUMN"),
        ("    row.title: T\n", "", "t:6: exemplar 1 lacks 'row.title'"),
        ("    principle_name: Brevity\n", "", "t:6: exemplar 1 lacks 'principle_name'"),
        ('seam: "\\n"', 'seam: "\\n--"', "t:15: 'seam' must be white space between quotes"),
        ('seam: "\\n"', "bos: maybe", "t:15: 'bos' must be true or false"),
        ("labels:", "preamble: By {{ principle_name }}\nlabels:",
         "t:3: 'preamble' is fixed text and cannot show {{ principle_name }}"),
    ],
)  # fmt: skip
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    """Catches braces that are shown to the judge, and a mistake without file, line or the variables that are known."""
    assert old in ASPECT
    with pytest.raises(InputError) as caught:
        parse_template(ASPECT.replace(old, new), "t")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_lines_of_a_block_are_the_files() -> None:
    """Catches a mistake in the second line of a literal block that is told of the first."""
    text = ASPECT.replace('answer: "The one with more {{ principle_name }} from', 'answer: |-\n  Yes.\n  {{ nope }} "')
    with pytest.raises(InputError, match=r"^t:18: 'answer': unknown variable 'nope'"):
        parse_template(text, "t")


@pytest.mark.parametrize("preamble", ["", "preamble:\n", 'preamble: ""\n'])
def test_a_preamble_may_be_missing(preamble: str) -> None:
    """Catches blank lines in front of the sample, and a name of a preamble that is refused."""
    assert asked(ASPECT.replace("seam:", f"{preamble}seam:")).user.startswith("Q: q")


def encoder(**tokenizer: Any) -> RequestEncoder:
    return RequestEncoder(Tokenizer(JsonBackend(tokenizer_data()), **tokenizer), None, 4096)


def test_the_seam_is_what_stands_before_an_answer() -> None:
    """Catches a blank line that is forced into a prompt whose answer follows in the same line, or in the next."""
    plain = encoder(bos_token="<s>", eos_token="</s>", adds_bos=False)
    for seam, between in (('"\\n"', "\n"), ('""', ""), ("", "\n\n")):
        request = asked(ASPECT.replace('seam: "\\n"', f"seam: {seam}"), exemplars=1)
        assert plain.render(request).endswith(f"(Mine) kind: Be kind.{between}The one with more kind from a to b is (")
        assert f"Be brief.{between}The one with more Brevity from" in request.user


def test_bos_on_and_off() -> None:
    """Catches a BOS that the template's author cannot switch, one that is there twice, and a model that has none."""
    for adds in (True, False):
        for said, first in (("true", True), ("false", False), ("", adds)):
            ids = encoder(bos_token="<s>", eos_token="</s>", adds_bos=adds).encode(asked(f"{BOS}{said}{REST}")).ids
            assert ids.count(0) == int(first)
            assert (ids[0] == 0) == first
    with pytest.raises(ModelError, match="the template asks for a beginning-of-sequence token, but bos_token is not"):
        encoder(bos_token=None, eos_token="</s>", adds_bos=False).encode(asked(f"{BOS}true{REST}"))


BOS = f"{ASPECT[: ASPECT.index('seam')]}bos: "
REST = f"\n{ASPECT[ASPECT.index('seam') :]}"


def test_bos_of_a_chat_template(small_model: str) -> None:
    """Catches a second BOS in front of the one that a chat template prints, and one that cannot be taken away."""
    chat = Judge.load(small_model, weights=False, rendering="chat")
    for said, first in (("true", 1), ("false", 0), ("", 1)):
        ids = chat.encode(asked(f"{BOS}{said}{REST}")).ids
        assert ids.count(0) == first
        assert (ids[0] == 0) == bool(first)


def test_endings_may_differ_between_principles(small_model: str) -> None:
    """Catches a run that is refused because requests name different principles, or a label after another's ending."""
    judge = Judge.load(small_model, device="cpu", rendering="plain")
    method = Salmon(parse_template(ASPECT, "t"), PRINCIPLES, reasoning=Sampling(max_new_tokens=2))
    encoded = [judge.encode(request) for request in method.requests(PAIR)]
    assert len({one.ending for one in encoded}) == len(PRINCIPLES)
    together = judge.score(encoded)
    assert judge.score(encoded[-1:]) == together[-1:]
    assert len({one.answers[0].logprob for one in together}) == len(encoded)


def test_answers_with_variables_are_imitated() -> None:
    """Catches a response with the judge's own answer in it that nobody counts since the answer shows a name."""
    imitates = Imitations([parse_template(ASPECT, "t")])
    assert imitates(PAIR._replace(response_a="x\nThe one with more charm: (b"))
    assert imitates(PAIR._replace(extra={"title": "T\nThe one with more"}))
    assert not imitates(PAIR)


@pytest.mark.parametrize("name", ["{{ principle_name }}", "{{ principle_name|lower }}"])
def test_an_answer_keeps_its_last_line_feed(name: str) -> None:
    """Catches a line feed that Jinja takes from the end of a text, in this process or in the template's own."""
    source = ASPECT.replace("{{ principle_name }} from {{ low }} to {{ high }} is (", f"{name}:\\n")
    assert asked(source).answer_start == "The one with more kind:\n"
