"""A prompt of the shape of SALMON's released one, as one template: it names its principle in sample and started answer.

Every prompt is put together again here, by hand, and scored by transformers.
"""

from __future__ import annotations

from os.path import commonprefix
from pathlib import Path
from typing import Any

import pytest
import torch

from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.principle_labels import SalmonLabel
from preftree.labeling.methods.salmon import Salmon
from preftree.labeling.pipeline import label_samples
from preftree.labeling.principles.principle import Principle
from preftree.labeling.principles.sets import load_principles
from preftree.labeling.prompts.catalogue import load_template, parse_template
from preftree.labeling.types import Message, Pair
from tests.labeling.opened import read
from tests.models import SMALL_CONFIG, write_model

PAIRS = Path(__file__).parent.parent / "examples" / "pairs.jsonl"
MAX_ERROR = 1e-3  # nats
HEAD = """# Judge

## What this is about

You are an assistant that picks the better of two outputs of a model. What you are given:

1. an Instruction
2. Output (a) and Output (b)

## Conversation"""
SAMPLE = """### User
Please pick the better output.

#### Instruction
{prompt}

#### Output (a)
{response_1}

#### Output (b)
{response_2}

#### Guide
A single aspect counts this time:

{principle_name}: {principle}

With that in mind, pick the better output.

### Judge"""
ANSWER = (
    "Gladly! Having read it all and what {principle_name} means, I think the more {principle_name} output is Output ("
)
NAMES = ("prompt", "response_1", "response_2", "principle_name", "principle")


def braced(text: str) -> str:
    return text.format(**{name: f"{{{{ {name} }}}}" for name in NAMES})


TEMPLATE = f"""---
description: Which of two outputs is the better one in one respect.
labels: [a, b]
preamble: |
{"".join(f"  {line}".rstrip() + chr(10) for line in HEAD.splitlines())}seam: "\\n"
answer: "{braced(ANSWER)}"
---
{braced(SAMPLE)}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG)


def gap(model: Any, tokenizer: Any, text: str) -> float:
    """log P(a) - log P(b) after `text`, a forward pass of its own."""
    ids, with_a, with_b = (tokenizer(one, add_special_tokens=False).input_ids for one in (text, f"{text}a", f"{text}b"))
    assert with_a[:-1] == with_b[:-1] == ids
    with torch.inference_mode():
        logits = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].double()
    return float(logits[with_a[-1]] - logits[with_b[-1]])


def test_one_run_of_eleven_principles_equals_transformers(model: Path) -> None:
    """Catches a label read at another place than behind "Output (", a name of another principle, or a blank line."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    principles = tuple(Principle(f"Aspect {n}", f"The output should have more of {n}.") for n in range(11))
    pair = Pair("x", (Message("user", "Name a planet."),), "Saturn.", "I would say that Mars is one of them.")
    judge = Judge.load(str(model), device="cpu", rendering="plain")
    [row] = label_samples([pair], Salmon(parse_template(TEMPLATE, "t"), principles), judge)
    assert isinstance(row.label, SalmonLabel)
    assert len(row.label.principles) == 11
    for principle, score in zip(principles, row.label.principles, strict=True):

        def prompt(first: str, second: str, of: Principle = principle) -> str:
            texts = zip(NAMES, ("Name a planet.", first, second, of.name, of.positive), strict=True)
            return f"{HEAD}\n\n{SAMPLE}\n{ANSWER}".format(**dict(texts))

        a, b = pair.response_a, pair.response_b
        assert score.s12 == pytest.approx(gap(theirs, tokenizer, prompt(a, b)), abs=MAX_ERROR)
        assert score.s21 == pytest.approx(-gap(theirs, tokenizer, prompt(b, a)), abs=MAX_ERROR)


def test_what_principles_share_costs_as_in_the_built_in_template() -> None:
    """Catches a name in the answer that keeps principles from sharing the pair: tokens besides those of each prompt's
    end, from the first word that differs, are 1.1 times those of the built-in template at most.
    """
    pairs = [item for item in read(PAIRS) if isinstance(item, Pair)][::4]
    judge = Judge.load("embedded", weights=False, rendering="plain")

    def shared(source: str) -> int:
        method = Salmon(parse_template(source, "t"), load_principles("labelled"))
        encoded = [judge.encode(request) for pair in pairs for request in method.requests(pair)]
        prompts = [one.ids for one in encoded]
        orders = [prompts[place : place + 11] for place in range(0, len(prompts), 11)]
        ends = sum(len(ids) - len(commonprefix(order)) for order in orders for ids in order)  # noqa: RUF071
        return int(judge.plan(encoded).rows) - ends

    assert parse_template(TEMPLATE, "t").warnings() == []
    assert shared(TEMPLATE) <= 1.1 * shared(load_template("salmon").source)
