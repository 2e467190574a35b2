"""Labels behind rationales, on the real engine: a pair's rationales and label are the same bits whatever else is asked.

Random weights write nonsense, which is as good for bits; the embedded model writes a few words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.engine.generation import Generation, Sampling
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.direct import Direct
from preftree.labeling.methods.probability import mean_probability
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.pipeline import Waiting, label_samples, windows
from preftree.labeling.prompts.catalogue import load_template, parse_template
from preftree.labeling.types import Message, Pair, PairLabel
from tests.models import SMALL_CONFIG, write_model

GREEDY = Sampling(max_new_tokens=8)
DRAWN = Sampling(max_new_tokens=8, n=3, temperature=1.5, top_k=50, seed=3)
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

SLOT_BYTES = 2 * 3 * 2 * 16 * 4  # keys and values of 3 layers with 2 heads of size 16


def make_pairs(count: int) -> list[Pair]:
    """Of several lengths, two by two with one prompt; one of identical responses."""
    pairs = []
    for number in range(count):
        prompt = (Message("user", f"What is {number // 2} plus one?" * (1 + number // 2)),)
        first = f"It is {number}, as far as I know."
        pairs.append(Pair(str(number), prompt, first, first if number == 3 else "I do not know."))
    return pairs


def label(scorer: Judge, pairs: Sequence[Pair], reasoning: Sampling) -> dict[str, PairLabel]:
    method = Rlaif(parse_template(SHORT, "short"), reasoning=reasoning)
    rows = list(label_samples(pairs, method, scorer))
    assert all(row.label for row in rows)
    return {row.item.id: row.label for row in rows if row.item.id and isinstance(row.label, PairLabel)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG)


@pytest.fixture(scope="module")
def scorer(model: Path) -> Judge:
    return Judge.load(str(model), device="cpu")


@pytest.mark.parametrize("reasoning", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_labels_and_rationales_are_bit_exact(model: Path, scorer: Judge, reasoning: Sampling) -> None:
    pairs = make_pairs(4)
    everything = label(scorer, pairs, reasoning)
    assert label(scorer, pairs[1:2], reasoning)["1"] == everything["1"], "alone"
    small = Judge.load(str(model), device="cpu", batch_tokens=300, kv_memory=600 * SLOT_BYTES)
    assert label(small, pairs[::-1], reasoning) == everything, "few at a time, in another order"
    for one in everything.values():
        assert len(one.rationales_first) == len(one.rationales_second) == reasoning.n
        assert all(rationale.tokens <= 8 for rationale in one.rationales_first)
    assert everything["3"].p_a == 0.5, "identical responses tie exactly"
    assert everything["3"].rationales_first == everything["3"].rationales_second


@pytest.mark.parametrize("reasoning", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_swapping_the_responses_flips_the_label_exactly(scorer: Judge, reasoning: Sampling) -> None:
    pairs = make_pairs(2)
    labels = label(scorer, pairs, reasoning)
    swapped = label(scorer, [pair.swap() for pair in pairs], reasoning)
    for key, straight in labels.items():
        assert swapped[key].p_a == 1 - straight.p_a
        assert swapped[key].p_a_first == 1 - straight.p_a_second
        assert swapped[key].rationales_first == straight.rationales_second


def test_planned_and_run_tokens_agree(model: Path) -> None:
    """Catches labels of two tokens ("10") that are planned behind the prompt and run behind the rationale."""
    method = Direct(load_template("direct"), "base", reasoning=Sampling(max_new_tokens=2))
    scorer = Judge.load(str(model), device="cpu", batch_tokens=1000)
    planner = Judge.load(str(model), device="cpu", batch_tokens=1000, weights=False)
    planned = 0
    for window in windows(make_pairs(2), method, planner):
        planned += planner.plan([asked for row in window if isinstance(row, Waiting) for asked in row.encoded]).rows
    assert all(row.label for row in label_samples(make_pairs(2), method, scorer))
    assert scorer.usage.unique_tokens == planned


def test_memory_for_no_sequence_is_one_error(model: Path) -> None:
    scorer = Judge.load(str(model), device="cpu", kv_memory=20 * SLOT_BYTES)
    with pytest.raises(InputError, match=r"kv_memory keeps 19 tokens, but prompt 0 needs \d+ .* set kv_memory to"):
        label(scorer, make_pairs(1), GREEDY)


def test_another_seed_draws_others(scorer: Judge) -> None:
    pairs = make_pairs(1)
    other = Sampling(max_new_tokens=8, n=3, temperature=1.5, top_k=50, seed=4)
    one, two = (label(scorer, pairs, reasoning)["0"] for reasoning in (DRAWN, other))
    assert one.rationales_first != two.rationales_first
    assert one.rationales_first != one.rationales_second
    assert len(set(one.rationales_first)) > 1, "samples of a prompt differ"


def test_the_embedded_model_explains(embedded_scorer: Callable[..., Judge], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches labels looked up elsewhere than behind prompt, rationale and ending, and samples averaged wrongly."""
    scorer = embedded_scorer()
    engine = scorer._engine
    assert engine is not None
    generations: list[list[Generation]] = []
    generate_and_score_stream = engine.generate_and_score_stream

    def remember(*asked: Any) -> Iterator[Any]:
        for reasoned in generate_and_score_stream(*asked):
            generations.extend(reasoned.generations)
            yield reasoned

    monkeypatch.setattr(engine, "generate_and_score_stream", remember)
    reasoning = Sampling(max_new_tokens=4, n=2, temperature=0.7, top_k=40, seed=1)
    [pair] = make_pairs(1)
    found = label(scorer, [pair], reasoning)["0"]
    written = generations[0]
    assert [one.text for one in written] == [rationale.text for rationale in found.rationales_first]
    assert not {token for one in written for token in one.ids} & set(scorer.tokenizer.control.values())
    assert scorer.usage.rationales == 4
    assert scorer.usage.generated_tokens == sum(len(one.ids) for of_prompt in generations for one in of_prompt)
    encoded = scorer.encode(Rlaif(parse_template(SHORT, "short"), reasoning=reasoning).requests(pair)[0])
    whole = [[*encoded.ids, *one.ids, *encoded.ending] for one in written]
    scores = engine.score(whole, [encoded.labels] * 2)
    by_hand = mean_probability([float(first - second) for first, second in scores.logprob])
    assert found.p_a_first == pytest.approx(by_hand, abs=1e-3)
    assert found.label_mass_first == pytest.approx(float(scores.label_mass.mean()), abs=1e-3)
