"""Continuations, and labels behind them: against transformers, against fresh passes, and bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preftree import Engine, RationaleScores, Sampling
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.decoding import decoder, prefill
from preftree.engine.decoding import stepper as stepping
from preftree.engine.decoding.sampler import next_tokens
from preftree.engine.device import Target
from preftree.engine.errors import InputError
from preftree.engine.model.kv import KvStore
from preftree.engine.model.model import Model
from preftree.engine.planning.plan import Plan
from preftree.engine.planning.trie import as_token_ids, unique_tokens
from preftree.kernels import cpu
from preftree.kernels.tiles import TileRun
from tests.engine.greedy import transformers_choices
from tests.engine.test_engine_scores import LABELS, VOCABULARY, prompts_of
from tests.models import CONTROL, SMALL_CONFIG

ENDING = [40, 41, 42]
# Behind the ending: the first token of labels 2 and 3, and the second of label 3.
FORCED_ROWS = 3
# Of a row, with those that fill it up to a multiple of 8.
LOGITS = -(-VOCABULARY // 8) * 8
GREEDY = Sampling(max_new_tokens=16)
DRAWN = Sampling(max_new_tokens=16, temperature=0.9, top_k=40, top_p=0.95, n=2, seed=5)


@pytest.fixture(scope="module")
def engine(directory: Path) -> Engine:
    return Engine.load(str(directory))


def reason(engine: Engine, prompts: Sequence[Sequence[int]], sampling: Sampling) -> RationaleScores:
    return engine.generate_and_score(prompts, [ENDING] * len(prompts), [LABELS] * len(prompts), sampling)


def kv_memory_of(directory: Path, tokens: int, bytes_each: int = 4) -> int:
    """Bytes that keep the K/V of `tokens` tokens; one slot more is for rows that fill a block."""
    config = open_checkpoint(str(directory)).config
    return (tokens + 1) * config.num_layers * 2 * config.kv_size * bytes_each


def loader(directory: Path, roomy: int | None = None, **fixed: Any) -> Callable[..., Engine]:
    """Engines with other budgets: kv_tokens are tokens whose K/V there is room for, `roomy` where nobody says."""

    def load(kv_tokens: int | None = roomy, **options: Any) -> Engine:
        bytes_each = 4 if fixed.get("dtype", "float32") == "float32" else 2
        kv_memory = None if kv_tokens is None else kv_memory_of(directory, kv_tokens, bytes_each)
        return Engine.load(str(directory), kv_memory=kv_memory, **fixed, **options)

    return load


def test_greedy_text_is_that_of_transformers(directory: Path, engine: Engine) -> None:
    """A wrong position, a wrong slot or a stale K/V row changes a token sooner or later."""
    prompts = prompts_of(8, seed=1)
    continued = engine.generate(prompts, max_new_tokens=70)
    for prompt, (one,) in zip(prompts, continued, strict=True):
        *ids, following = transformers_choices(directory, prompt, one.ids)
        assert one.ids == ids
        assert (one.finish == "length") == (len(ids) == 70)
        assert one.finish == "length" or following < len(CONTROL)
    assert sum(len(one.ids) for (one,) in continued) > 200


def test_labels_equal_a_fresh_pass(engine: Engine) -> None:
    """Behind the ending, with labels of one to three tokens whose rows overwrite each other's slots."""
    prompts = prompts_of(7, seed=2)
    reasoned = reason(engine, prompts, DRAWN)
    whole = [
        prompt + one.ids + ENDING for prompt, of_prompt in zip(prompts, reasoned.generations, strict=True)
        for one in of_prompt
    ]  # fmt: skip
    fresh = engine.score(whole, [LABELS] * len(whole))
    np.testing.assert_allclose(reasoned.scores.logprob, fresh.logprob, atol=1e-4)
    np.testing.assert_allclose(reasoned.scores.logit, fresh.logit, atol=1e-4, equal_nan=True)
    np.testing.assert_allclose(reasoned.scores.label_mass, fresh.label_mass, atol=1e-5)


def seen_by_next_tokens(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes of the logits and the uniform numbers of every call, by whichever caller."""
    shapes = []

    def seen(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        shapes.append((tuple(logits.shape), tuple(uniform.shape)))
        return next_tokens(logits, uniform, sampling)

    for caller in (prefill, stepping):
        monkeypatch.setattr(caller, "next_tokens", seen)
    return shapes


def assert_bit_exact(load: Callable[..., Engine], prompts: list[list[int]], sampling: Sampling) -> None:
    """The promise: the same text and the same numbers, whatever else is there."""
    n = sampling.n
    everything = reason(load(), prompts, sampling)

    def assert_equal(found: RationaleScores, places: Sequence[int], what: str) -> None:
        assert found.generations == [everything.generations[place] for place in places], what
        rows = [place * n + sample for place in places for sample in range(n)]
        for name in ("logprob", "logit", "label_mass"):
            ours, theirs = getattr(found.scores, name), getattr(everything.scores, name)[rows]
            assert np.array_equal(ours, theirs, equal_nan=True), what

    for place in range(2):
        assert_equal(reason(load(), prompts[place : place + 1], sampling), [place], "alone")
    backwards = range(len(prompts))[::-1]
    assert_equal(reason(load(), prompts[::-1], sampling), backwards, "another order")
    needed = max(map(len, prompts)) + sampling.max_new_tokens + len(ENDING) + FORCED_ROWS
    for slots in (needed, 4 * needed):
        tight = load(kv_tokens=slots, batch_tokens=100)
        assert_equal(reason(tight, prompts[::-1], sampling), backwards, f"room for {slots} tokens")
    cuts = ((0, 1), (1, 6), (6, len(prompts)))
    calls = [(prompts[a:b], [ENDING] * (b - a), [LABELS] * (b - a)) for a, b in cuts]
    for (a, b), found in zip(cuts, load().generate_and_score_stream(calls, sampling), strict=True):
        assert_equal(found, range(a, b), "in several calls")


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_the_same_bits_whatever_else_is_there(directory: Path, sampling: Sampling) -> None:
    """A step's bits would change with the batch if a product had few rows, or a sum the length of its neighbour's."""
    assert_bit_exact(loader(directory), prompts_of(9, seed=3), sampling)


def test_the_promise_would_notice(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inverse: attention that is rounded once more where an odd number of tiles is in the pass."""
    attention = cpu.tree_attention

    def variant(queries: torch.Tensor, kv: torch.Tensor, tiles: Any, out: torch.Tensor, **options: Any) -> None:
        attention(queries, kv, tiles, out, **options)
        if sum(len(one.tiles if isinstance(one, TileRun) else one.slots) for one in tiles) % 2:
            out.mul_(3).div_(3)

    monkeypatch.setattr(cpu, "tree_attention", variant)
    with pytest.raises(AssertionError):
        assert_bit_exact(loader(directory), prompts_of(9, seed=3), GREEDY)


def test_rows_of_logits_are_aligned(engine: Engine) -> None:
    """A GPU sums a row in an order that depends on where the row begins, and this vocabulary divides by nothing."""
    model, rows = engine._model, torch.randn(2 * 32, SMALL_CONFIG["hidden_size"])
    assert VOCABULARY % 4
    logits = model.next_logits(rows)
    assert logits.is_contiguous()
    assert logits.shape == (len(rows), LOGITS)
    expected = torch.cat([model.ops.token_logits(block, model.weights.head) for block in rows.split(32)])
    assert torch.equal(logits[:, :VOCABULARY], expected)
    assert (logits[:, VOCABULARY:] == float("-inf")).all(), "never drawn, and nothing to any sum"


def test_a_row_is_run_once(engine: Engine) -> None:
    """Step two runs the ending and nothing else; the samples of a prompt share its rows."""
    prompts = prompts_of(5, seed=4)
    for sampling in (GREEDY, DRAWN):
        found = reason(engine, prompts, sampling)
        sequences = len(prompts) * sampling.n
        assert found.prefill_rows == unique_tokens([as_token_ids(prompt) for prompt in prompts])
        assert found.generated_tokens == sum(len(one.ids) for samples in found.generations for one in samples)
        step_rows = found.generated_tokens + sequences * (len(ENDING) + FORCED_ROWS)
        assert found.scores.rows == found.prefill_rows + step_rows
        assert found.scores.prompt_tokens == sum(map(len, prompts))


@pytest.mark.parametrize("count", [1, 16, 17, 40])
def test_tokens_are_drawn_a_step_block_at_a_time(directory: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's cumulative sums of 300 rows have other bits than those of 128: a drawn token would depend on company."""
    shapes = seen_by_next_tokens(monkeypatch)
    engine = Engine.load(str(directory))
    reason(engine, prompts_of(count, seed=3), replace(DRAWN, max_new_tokens=2))
    block = engine.target.layout.step_block
    assert set(shapes) == {((block, LOGITS), (block,))}
    # Of first tokens, 2 samples a prompt; after that the batch is never wider than a block.
    assert len(shapes) > -(-count * DRAWN.n // block)


def test_progress_counts_every_token(engine: Engine) -> None:
    """The first one, which the prompt's own pass gives, included."""
    told: list[tuple[int, int]] = []
    prompts = prompts_of(5, seed=4)
    asked = [(prompts, [ENDING] * 5, [LABELS] * 5)]
    (found,) = engine.generate_and_score_stream(asked, DRAWN, lambda tokens, done: told.append((tokens, done)))
    assert sum(tokens for tokens, _ in told) == found.generated_tokens
    assert sum(done for _, done in told) == 5 * DRAWN.n


def test_calls_are_taken_as_they_are_needed(engine: Engine) -> None:
    """A million rows that cannot be asked must not be read before the first answer is given."""
    taken = []

    def calls() -> Iterator[tuple[list[list[int]], list[list[int]], list[list[list[int]]]]]:
        for number in range(1000):
            taken.append(number)
            yield [], [], []

    next(engine.generate_and_score_stream(calls(), GREEDY))
    assert len(taken) < 3


def test_what_calls_begin_with_is_run_once(engine: Engine) -> None:
    prompts = prompts_of(24, seed=6, shared=100)
    calls = [(prompts[first : first + 8], [ENDING] * 8, [LABELS] * 8) for first in range(0, 24, 8)]
    found = list(engine.generate_and_score_stream(calls, GREEDY))
    separate = sum(unique_tokens([as_token_ids(prompt) for prompt in call[0]]) for call in calls)
    assert sum(one.prefill_rows for one in found) <= separate - 100


def test_samples_differ_and_depend_on_the_seed(engine: Engine) -> None:
    prompt = prompts_of(1, seed=7)
    found = reason(engine, prompt, DRAWN).generations[0]
    assert len({tuple(one.ids) for one in found}) == DRAWN.n
    assert reason(engine, prompt, DRAWN).generations[0] == found
    assert reason(engine, prompt, replace(DRAWN, seed=6)).generations[0] != found
    assert reason(engine, prompt, replace(DRAWN, n=5)).generations[0][:2] == found


def test_a_text_stops_and_is_left_out(engine: Engine) -> None:
    """The text ends before the stop, tokens that are part of it are gone, and labels stand behind what is left."""
    prompts = prompts_of(6, seed=1)
    free = engine.generate(prompts, max_new_tokens=16)
    texts = [engine.checkpoint.tokenizer.decode([one.ids[5]]) for (one,) in free]
    stop = next(text for text in texts if len(text) == 1 and text.isprintable())
    stopped = reason(engine, prompts, replace(GREEDY, stop=(stop, "never said")))
    assert any(stop in before.text for (before,) in free)
    for (one,), (before,) in zip(stopped.generations, free, strict=True):
        assert stop not in one.text
        assert one.ids == before.ids[: len(one.ids)]
        assert (one.finish == "stop") == (stop in before.text or before.finish == "stop")
    whole = [prompt + one.ids + ENDING for prompt, (one,) in zip(prompts, stopped.generations, strict=True)]
    np.testing.assert_allclose(stopped.scores.logprob, engine.score(whole, [LABELS] * len(whole)).logprob, atol=1e-4)


def test_control_tokens_stop(engine: Engine) -> None:
    """Hot enough to say anything: no continuation holds a control token, and some are ended by one."""
    hot = Sampling(max_new_tokens=100, temperature=50.0, n=8)
    found = [one for samples in engine.generate(prompts_of(2, seed=8), **vars(hot)) for one in samples]
    control = {engine.checkpoint.tokenizer.control[token] for token in CONTROL}
    assert all(control.isdisjoint(one.ids) for one in found)
    assert {one.finish for one in found} == {"stop", "length"}
    assert len({token for one in found for token in one.ids}) > VOCABULARY // 2


def test_no_slot_is_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that leaks would do for a test and fail in an hour."""
    from preftree.engine.decoding import runner as generation_runner

    stores: list[KvStore] = []

    class Seen(decoder.Decoder):
        def __init__(self, model: Model, target: Target, store: KvStore, *others: Any) -> None:
            stores.append(store)
            super().__init__(model, target, store, *others)

    monkeypatch.setattr(generation_runner, "Decoder", Seen)
    prompts = prompts_of(24, seed=9, shared=100)
    calls = [(prompts[first : first + 8], [ENDING] * 8, [LABELS] * 8) for first in range(0, 24, 8)]
    kept = 0
    for _ in engine.generate_and_score_stream(calls, DRAWN):
        kept = stores[0].num_slots - stores[0].num_free
    assert 0 < kept < 200, "the prefix, and nothing else"


def test_bfloat16(directory: Path) -> None:
    engine = Engine.load(str(directory), dtype="bfloat16")
    prompts = prompts_of(5, seed=3)
    together = reason(engine, prompts, GREEDY)
    alone = reason(engine, prompts[2:3], GREEDY)
    assert alone.generations[0] == together.generations[2]
    assert np.array_equal(alone.scores.logprob[0], together.scores.logprob[2])


def test_a_call_without_prompts(engine: Engine) -> None:
    empty, one = engine.generate_and_score_stream([([], [], []), ([[5, 6]], [ENDING], [LABELS])], GREEDY)
    assert empty.generations == []
    assert empty.scores.logprob.shape[0] == 0
    assert len(one.generations) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"n": 0}, "n is 0"),
        ({"n": 2}, "at temperature 0 all samples are the same"),
        ({"top_k": 3}, "set a temperature above 0"),
        ({"temperature": 1, "top_k": 0}, "top_k is 0"),
        ({"temperature": 1, "top_p": 0.0}, "top_p is 0"),
        ({"temperature": 1, "top_p": 1.5}, "top_p is 1.5"),
        ({"stop": ["a", ""]}, "a stop text is empty"),
        ({"stop": "abc"}, "must be a list of texts"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_options_out_of_range(engine: Engine, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        engine.generate([[5]], **options)
    assert "\n" not in str(raised.value)


def test_no_room(directory: Path, engine: Engine) -> None:
    """In the context, with the number of tokens that are missing; and in memory, with what to set."""
    context = SMALL_CONFIG["max_position_embeddings"]
    prompts = [[5], [6] * (context - 12)]
    with pytest.raises(
        InputError, match=r"prompt 1 has 4,084 tokens; with up to 19 after it that is 7 more than the model's context"
    ):
        engine.generate_and_score(prompts, [ENDING] * 2, [[[33], [34]]] * 2, GREEDY)
    tight = Engine.load(str(directory), kv_memory=kv_memory_of(directory, 100))
    with pytest.raises(InputError, match=r"kv_memory keeps 100 tokens, but prompt 0 needs 116 .* 89,856 bytes or more"):
        tight.generate([[5] * 100], max_new_tokens=16)
    enough = Engine.load(str(directory), kv_memory=89_856)
    assert len(enough.generate([[5] * 100], max_new_tokens=16)[0][0].ids) == 16
    with pytest.raises(InputError, match="kv_memory is 5 bytes; a single token of this model needs 768"):
        Engine.load(str(directory), kv_memory=5).generate([[5]])
    with pytest.raises(InputError, match="the ending of prompt 0 must be a non-empty list"):
        engine.generate_and_score([[5]], [[]], [LABELS])
    with pytest.raises(InputError, match="endings for 2 and labels for 1"):
        engine.generate_and_score([[5]], [ENDING] * 2, [LABELS])


def test_memory_runs_out_over_prompts(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer prompts a pass from then on, and the same numbers."""
    prompts = prompts_of(9, seed=3)
    expected = reason(Engine.load(str(directory)), prompts, GREEDY)
    whole = Model.final_hidden

    def small(self: Model, plan: Plan, *others: Any) -> torch.Tensor:
        if plan.num_rows > 350:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, plan, *others)

    monkeypatch.setattr(Model, "final_hidden", small)
    found = reason(Engine.load(str(directory)), prompts, GREEDY)
    assert found.generations == expected.generations
    assert np.array_equal(found.scores.logprob, expected.scores.logprob)
