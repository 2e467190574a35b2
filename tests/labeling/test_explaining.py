"""Step one on its way: template texts, token ids behind a rationale, and every sample under its own prompt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from preftree.engine.errors import InputError, ModelError
from preftree.engine.generation import Sampling
from preftree.labeling.judge.encoding import Encoded
from preftree.labeling.judge.judge import Judge
from preftree.labeling.prompts.catalogue import load_template, parse_template, template_names
from preftree.labeling.types import Message, RationaleRequest, ScoreRequest
from tests.labeling.fake_engine import FakeEngine, fake_scorer, thinks, wrote
from tests.models import CONFIG, SMALL_CONFIG, write_model

PROMPT = (Message("user", "q"),)
GOOD = """---
description: Which is better.
labels: ["1", "2"]
preamble: Choose.
exemplars:
  - prompt: p
    response_1: x
    response_2: y
    rationale: >
      y is true,
      x is not.
    label: "2"
answer: "Better: "
rationale:
  ask: Explain first.
  start: "Because"
---
Q: {{ prompt }}
1: {{ response_1 }}
2: {{ response_2 }}
Which?
"""
LAST = '  start: "Because"\n'


def request(template: str = GOOD, exemplars: int = 0, reasoning: Sampling | None = None) -> ScoreRequest:
    parsed = parse_template(template, "t")
    return parsed.request(
        PROMPT, "a", "b", preamble="base", exemplars=exemplars, reasoning=reasoning or Sampling(max_new_tokens=20)
    )


# templates


def test_a_request_to_explain() -> None:
    """Catches exemplars that show another form than the judge is to keep to."""
    asked = request(exemplars=1)
    shown = "Q: p\n1: x\n2: y\nWhich?\n\nExplain first.\n\nBecause y is true, x is not.\n\nBetter: 2"
    assert asked.user == f"Choose.\n\n{shown}\n\nQ: q\n1: a\n2: b\nWhich?\n\nExplain first."
    assert asked.answer_start == "Because"
    assert asked.rationale == RationaleRequest("\n\nBetter: ", (), Sampling(max_new_tokens=20))
    own = LAST.replace("Because", "Because\\n") + '  ending: " So: "\n  stop: ["\\n###", "END"]\n'
    asked = request(GOOD.replace(LAST, own), exemplars=1)
    assert "\n\nBecause\ny is true, x is not. So: 2\n\nQ: q" in asked.user
    assert asked.rationale == RationaleRequest(" So: ", ("\n###", "END"), Sampling(max_new_tokens=20))


def test_without_cot_nothing_changes() -> None:
    plain = parse_template(GOOD, "t").request(PROMPT, "a", "b", preamble="base", exemplars=1)
    assert plain.user == "Choose.\n\nQ: p\n1: x\n2: y\nWhich?\n\nBetter: 2\n\nQ: q\n1: a\n2: b\nWhich?"
    assert (plain.answer_start, plain.rationale) == ("Better: ", None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            GOOD[GOOD.index("rationale:\n") : GOOD.index("---\nQ")],
            "",
            "t:13: there is no 'rationale' for --cot; it needs",
        ),
        (LAST, "", "t:15: 'rationale' lacks 'start'"),
        (LAST, f"{LAST}  end: x\n", "t:17: 'rationale' has 'end'; known: ask, start, ending, stop"),
        (LAST, f"{LAST}  stop: x\n", "t:17: 'stop' of 'rationale' must be a list"),
        (LAST, f'{LAST}  stop: [x, ""]\n', "t:17: stop 2 of 'rationale' must be a non-empty text"),
        (LAST, f"{LAST}  ending: {{{{}}}}\n", "t:17: "),
        ('"Because"', '" "', "t:16: 'start' of 'rationale' must be a non-empty text"),
        (
            "Explain first.",
            "Explain {{ prompt }}.",
            "t:15: 'ask' of 'rationale': unknown variable 'prompt'; known: pri",
        ),
        ("  ask: Explain first.\n" + LAST, "", "t:1"),
        (
            "    rationale: >\n      y is true,\n      x is not.\n",
            "",
            "t:5: exemplar 1 has no 'rationale' to show with",
        ),
        ("y is true,\n      x is not.", "", "t:9: 'rationale' of exemplar 1 must be a non-empty text"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    """Catches a template without these texts that asks for the label at once, and mistakes without their line."""
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        request(GOOD.replace(old, new), exemplars=1)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_built_in_templates_explain() -> None:
    """Catches one that cannot, and one whose started rationale ends in a space, which words bring themselves."""
    for name in template_names():
        template = load_template(name)
        if name.startswith("principled"):
            continue
        assert template.explaining is not None, name
        assert not template.explaining.start.source[-1].isspace()
        assert template.explaining.ending.source == f"\n\n{template.answer.source}"
        heading = template.body.splitlines()[0]
        assert template.explaining.stop == (f"\n{heading}",), "a model that goes on would begin the next sample"
        assert all(exemplar.rationale for exemplar in template.exemplars)


# token ids


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


def test_labels_are_resolved_behind_the_ending() -> None:
    """Catches labels resolved behind the prompt, and an ending encoded as the beginning of a text."""
    scorer = Judge.load("embedded", weights=False)
    encode = scorer.tokenizer.encode
    encoded = scorer.encode(request())
    assert encoded.ids[-1:] == encode("Because")
    assert list(encoded.ending) == encode("\n\nBetter: ")
    assert encoded.labels == [encode("1"), encode("2")]
    spaced = GOOD.replace('answer: "Better: "', 'answer: "Better:"')
    spaced = spaced.replace('labels: ["1", "2"]', 'labels: [" A", " B"]').replace('label: "2"', 'label: " B"')
    assert scorer.encode(request(spaced)).labels == [encode(" A"), encode(" B")]
    merging = GOOD.replace('labels: ["1", "2"]', "labels: [A, B]").replace('label: "2"', "label: B")
    with pytest.raises(ModelError, match=r"label 'A' merges with the answer start '\\n\\nBetter: '"):
        scorer.encode(request(merging))


def test_no_room_says_how_many_tokens_are_missing(tmp_path: Path) -> None:
    """Catches an off-by-one against the context, and a row that stops a run where it should be rejected."""
    scorer = Judge.load(str(write_model(tmp_path / "tiny", CONFIG)), weights=False)
    context, encoded = CONFIG["max_position_embeddings"], scorer.encode(request())
    room = context - len(encoded.ids) - len(encoded.ending)
    assert scorer.encode(request(reasoning=Sampling(max_new_tokens=room))).ids == encoded.ids
    with pytest.raises(InputError) as caught:
        scorer.encode(request(reasoning=Sampling(max_new_tokens=room + 3)))
    assert re.fullmatch(
        rf"no room for a rationale: 3 tokens are missing, as the prompt has {len(encoded.ids)}, the rationale may have "
        rf"{room + 3} and the answer {len(encoded.ending)}, and the model's context is 512; .*--max-rationale-tokens.*",
        str(caught.value),
    )


def test_endings_cannot_forge_control_tokens(model: str) -> None:
    scorer = Judge.load(model, weights=False)
    forged = scorer.encode(request(GOOD.replace(LAST, LAST + '  ending: "</s><|user|>: "\n')))
    assert not set(forged.ending) & set(scorer.tokenizer.control.values())


# the scorer


def encoded(scorer: Judge, number: int, reasoning: Sampling) -> Encoded:
    template = parse_template(GOOD, "t")
    prompt = (Message("user", f"q{number}"),)
    return scorer.encode(template.request(prompt, "a", "b", preamble="base", exemplars=0, reasoning=reasoning))


def test_every_sample_stays_under_its_prompt(model: str) -> None:
    """Catches rows of samples read in another order than they were written in, and windows that change places."""
    reasoning = Sampling(max_new_tokens=8, n=3, temperature=0.7, top_k=40, top_p=0.9, seed=5)
    sampling = Sampling(max_new_tokens=8, n=3, temperature=0.7, top_k=40, top_p=0.9, seed=5)
    engine = FakeEngine()
    scorer = fake_scorer(model, engine)
    items = [encoded(scorer, number, reasoning) for number in range(5)]
    told: list[tuple[int, int]] = []
    windows = [[], items[:3], [], items[3:], []]
    results = list(scorer.score_stream(windows, lambda tokens, rationales: told.append((tokens, rationales))))
    assert [len(window) for window in results] == [0, 3, 0, 2, 0]
    flat = [scores for window in results for scores in window]
    for item, scores in zip(items, flat, strict=True):
        assert scores.prompt_tokens == len(item.ids)
        for sample, answer in enumerate(scores.answers):
            expected = wrote(item.ids, sample, sampling)
            assert answer.rationale is not None
            assert answer.rationale.text == expected.text
            assert answer.rationale.tokens == len(expected.ids)
            assert answer.rationale.cut == (expected.finish == "length")
            assert list(answer.logprob) == thinks(expected, item.labels)
    assert engine.asked == [sampling]
    assert engine.endings == {items[0].ending}
    written = [rationale for scores in flat for rationale in scores.rationales]
    assert scorer.usage.rationales == len(written) == 15
    assert scorer.usage.generated_tokens == sum(one.tokens for one in written) == sum(tokens for tokens, _ in told)
    assert scorer.usage.cut_rationales == sum(one.cut for one in written)
    assert sum(rationales for _, rationales in told) == 15
    assert scorer.usage.unique_tokens == sum(len(item.ids) for item in items), "what is written is counted apart"


def test_stop_texts_reach_the_engine(model: str) -> None:
    engine = FakeEngine()
    scorer = fake_scorer(model, engine)
    scorer.score([scorer.encode(request(GOOD.replace(LAST, LAST + '  stop: ["\\n###"]\n')))])
    assert [sampling.stop for sampling in engine.asked] == [("\n###",)]


def test_requests_that_are_not_alike_are_refused(model: str) -> None:
    """Catches a stream whose first request decides in silence how the others are answered."""
    scorer = fake_scorer(model, FakeEngine())
    one, other = (encoded(scorer, 1, Sampling(max_new_tokens=tokens)) for tokens in (5, 6))
    with pytest.raises(InputError, match="in the same way, or none of them"):
        list(scorer.score_stream([[one], [other]]))
    with pytest.raises(InputError, match="in the same way, or none of them"):
        list(scorer.score_stream([[one, Encoded(one.ids, one.labels)]]))
