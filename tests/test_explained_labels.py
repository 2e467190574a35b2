"""Labels behind rationales, on the real engine: a pair's rationales and label are the same bits whatever else is asked.

Random weights write nonsense, which is as good a test of bits; the embedded model writes a few words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from engine.generation import Sampling
from labeling.labels.odds import mean_probability
from labeling.methods.rlaif import Rlaif
from labeling.prompts import parse_template
from labeling.reasoning import Reasoning
from labeling.scorer import Scorer
from labeling.types import Message, Pair, PairLabel
from labeling.windows import label_samples
from tests.models import SMALL_CONFIG, write_model

GREEDY = Reasoning(max_tokens=12)
DRAWN = Reasoning(max_tokens=12, samples=3, temperature=1.5, top_k=50, seed=3)
SHORT = """---
description: Which is better.
labels: ["1", "2"]
preamble: Choose.
answer: "Better: "
rationale:
  ask: Why?
  start: "Because"
---
{{ prompt }}
1: {{ response_1 }}
2: {{ response_2 }}
"""

OpenScorer = Callable[..., Scorer]


def make_pairs(count: int) -> list[Pair]:
    """Of several lengths, two by two with one prompt; one of identical responses."""
    pairs = []
    for number in range(count):
        prompt = (Message("user", f"What is {number // 2} plus one?" * (1 + number // 2)),)
        first = f"It is {number}, as far as I know."
        pairs.append(Pair(str(number), prompt, first, first if number == 3 else "I do not know."))
    return pairs


def label(scorer: Scorer, pairs: Sequence[Pair], reasoning: Reasoning) -> dict[str, PairLabel]:
    method = Rlaif(parse_template(SHORT, "short"), reasoning=reasoning)
    rows = list(label_samples(pairs, method, scorer))
    assert all(row.label for row in rows)
    return {row.item.id: row.label for row in rows if row.item.id and isinstance(row.label, PairLabel)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG)


@pytest.fixture
def open_scorer(model: Path) -> OpenScorer:
    return lambda **options: Scorer.open(str(model), **options)


@pytest.mark.parametrize("reasoning", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_labels_and_rationales_are_bit_exact(open_scorer: OpenScorer, reasoning: Reasoning) -> None:
    pairs = make_pairs(5)
    everything = label(open_scorer(), pairs, reasoning)
    assert label(open_scorer(), pairs[1:2], reasoning)["1"] == everything["1"], "alone"
    assert label(open_scorer(batch_tokens=300), pairs[::-1], reasoning) == everything, "small batches, another order"
    for one in everything.values():
        assert len(one.rationales_first) == len(one.rationales_second) == reasoning.samples
        assert all(rationale.tokens <= 12 for rationale in one.rationales_first)
    assert everything["3"].p_a == 0.5, "identical responses tie exactly"
    assert everything["3"].rationales_first == everything["3"].rationales_second


@pytest.mark.parametrize("reasoning", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_swapping_the_responses_flips_the_label_exactly(open_scorer: OpenScorer, reasoning: Reasoning) -> None:
    pairs = make_pairs(3)
    labels = label(open_scorer(), pairs, reasoning)
    swapped = label(open_scorer(), [pair.swap() for pair in pairs], reasoning)
    for key, straight in labels.items():
        assert swapped[key].p_a == 1 - straight.p_a
        assert swapped[key].p_a_first == 1 - straight.p_a_second
        assert swapped[key].rationales_first == straight.rationales_second


def test_another_seed_draws_others(open_scorer: OpenScorer) -> None:
    pairs = make_pairs(1)
    other = Reasoning(max_tokens=12, samples=3, temperature=1.5, top_k=50, seed=4)
    one, two = (label(open_scorer(), pairs, reasoning)["0"] for reasoning in (DRAWN, other))
    assert one.rationales_first != two.rationales_first
    assert one.rationales_first != one.rationales_second
    assert len(set(one.rationales_first)) > 1, "samples of a prompt differ"


def test_the_embedded_model_explains(embedded_scorer: OpenScorer) -> None:
    """By hand: the rationale's ids from the engine, then prompt, rationale and ending as one prompt to score.

    Catches labels looked up at another place than behind the ending, and samples averaged wrongly.
    """
    reasoning = Reasoning(max_tokens=16, samples=2, temperature=0.7, top_k=40, seed=1)
    scorer = embedded_scorer()
    engine = scorer._engine
    assert engine is not None
    pairs = make_pairs(2)
    labels = label(scorer, pairs, reasoning)
    assert scorer.usage.rationales == 8
    assert scorer.usage.generated_tokens <= 8 * 16
    method = Rlaif(parse_template(SHORT, "short"), reasoning=reasoning)
    request, _ = method.requests(pairs[1])
    encoded = scorer.encode(request)
    assert request.rationale is not None
    sampling = Sampling(max_new_tokens=16, n=2, temperature=0.7, top_k=40, seed=1, stop=request.rationale.stop)
    written = engine.reason([encoded.ids], [encoded.ending], [encoded.labels], sampling).generations[0]
    assert [one.text for one in written] == [one.text for one in labels["1"].rationales_first]
    assert not {token for one in written for token in one.ids} & set(scorer.tokenizer.control.values())
    whole = [[*encoded.ids, *one.ids, *encoded.ending] for one in written]
    scores = engine.score(whole, [encoded.labels] * 2)
    by_hand = mean_probability([float(first - second) for first, second in scores.logprob])
    assert labels["1"].p_a_first == pytest.approx(by_hand, abs=1e-3)
    assert labels["1"].label_mass_first == pytest.approx(float(scores.label_mass.mean()), abs=1e-3)
