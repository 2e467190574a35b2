"""Where a response begins in one string, and what is not part of it."""

from __future__ import annotations

from typing import cast

import pytest

from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.serving.refused import Refused
from preftree.labeling.serving.texts import Markup
from tests.labeling.fakes import FakeScorer
from tests.labeling.serving.fakes import FakeJudge


def test_only_the_ends_are_stripped() -> None:
    """Catches control strings that are taken out of the middle, and ends of turns that stay."""
    markup = Markup(("<|im_end|>", "<|im_start|>user\n", "<|im_start|>assistant\n"))
    prompt = "<|im_start|>user\nWhat is <|im_end|>?<|im_end|>\n<|im_start|>assistant\n"
    found = markup.of_query(f"{prompt}  A mark.<|im_end|>\n<|im_end|>\n", prompt, 0)
    assert found == ("What is <|im_end|>?", "  A mark.")


def test_without_texts_to_strip_nothing_changes() -> None:
    """Catches white space that is taken from a response nobody asked to change."""
    assert Markup().of_query("Q: \n A. \n", "Q: ", 0) == ("Q: ", "\n A. \n")


def test_the_last_split_counts() -> None:
    """Catches a conversation of several turns that is cut after its first."""
    judge = cast(AnyJudge, FakeJudge())
    markup = Markup.of_judge(judge, (), None)
    text = "<|user|>One<|end|><|assistant|>Two<|user|>Three<|end|><|assistant|>Four"
    assert markup.of_rendered(text, "input[0]") == ("One<|end|><|assistant|>Two<|user|>Three", "Four")
    assert Markup.of_judge(judge, (), "=>").of_rendered("a => b", "input[0]") == ("a ", " b")


@pytest.mark.parametrize("before", ["<s>system: Be good. user: ", "system: Be good. user: ", "user: ", ""])
def test_what_a_template_begins_with_is_no_part_of_the_prompt(before: str) -> None:
    """Catches a prompt with the judge's own system text in it where a client left out no more than the BOS token."""
    markup = Markup(before="<s>system: Be good. user: ", split=" assistant: ")
    assert markup.of_rendered(f"{before}Hi. assistant: Hello.", "input[0]") == ("Hi.", "Hello.")


@pytest.mark.parametrize(
    ("end", "kept"), [("<|end|>\n", ""), ("<|end|>", ""), ("", ""), ("<|", "<|"), ("<|end|>\n<|assis", "")]
)
def test_the_end_of_a_rendered_turn_is_no_part_of_the_response(end: str, kept: str) -> None:
    """Catches an end of turn that the judge reads as text, and a response that loses what it ended with."""
    markup = Markup(before="<|user|>", split="<|end|>\n<|assistant|>")
    found = markup.of_rendered(f"<|user|>Hi.<|end|>\n<|assistant|>Hello.{end}", "input[0]")
    assert found == ("Hi.", f"Hello.{kept}")


def test_a_judge_without_a_template_needs_a_split() -> None:
    """Catches a guess where a response begins."""

    class Plain(FakeScorer):
        def render(self, request: object) -> str:
            return "\ue000\n\n\ue001"

    with pytest.raises(Refused, match="--split"):
        Markup.of_judge(cast(AnyJudge, Plain()), (), None).of_rendered("a\n\nb", "input[0]")
