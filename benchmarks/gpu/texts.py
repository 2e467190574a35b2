"""Synthetic judging prompts as random token ids, with the lengths of real ones; no tokenizer, no data file.

What a judge reads, in order: a preamble that all prompts share, the instruction, both responses, in one workload a
criterion, and an ending. The 2-prompt workload asks about a pair in both orders, the 22-prompt one also by eleven
criteria.
"""

from __future__ import annotations

import numpy as np

from benchmarks.workloads import JudgePrompt, Workload

# Token lengths of all 419 LLMBar pairs with SmolLM2's tokenizer: every twentieth quantile, shortest to longest.
INSTRUCTION_TOKENS = (2, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 20, 22, 24, 27, 30, 36, 44, 66, 114, 777)
RESPONSE_TOKENS = (1, 6, 9, 12, 16, 21, 25, 30, 36, 43, 52, 61, 74, 87, 105, 135, 179, 235, 324, 438, 766)
# Rank correlation of the two responses' lengths is 0.54: every other pair answers at one length.
SAME_LENGTH_SHARE = 0.5
PREAMBLE_TOKENS = 150
HEADING_TOKENS = 5
CRITERION_TOKENS = (16, 15, 18, 15, 16, 18, 16, 16, 12, 16, 15)
ENDING_TOKENS = 10
OPTIONS = 10
LABELS = [[1], [2]]
_FIRST_TOKEN = 3
_SEED = 20240607

# Name: tokens of the query that its options share, and of an option. 300 together.
OPTION_WORKLOADS = {"options 270+30": (270, 30), "options 120+180": (120, 180)}


def workload(name: str, pairs: int, vocab_size: int, divisor: int = 1) -> Workload:
    """`pairs` pairs (queries) of workload `name`. The first ones are the same whatever their number.

    divisor: texts are that much shorter.
    """
    one = _options if name in OPTION_WORKLOADS else _judged
    prompts = [prompt for pair in range(pairs) for prompt in one(name, pair, vocab_size, divisor)]
    return Workload(name, tuple(prompts), encode_seconds=0.0)


def prompts_a_pair(name: str) -> int:
    return OPTIONS if name in OPTION_WORKLOADS else int(name)


class _Writer:
    """Random tokens, the same for the same names."""

    def __init__(self, vocab_size: int, divisor: int, *seed: int) -> None:
        self.random = np.random.default_rng([_SEED, *seed])
        self._vocab_size, self._divisor = vocab_size, divisor

    def tokens(self, count: float) -> list[int]:
        length = max(1, round(count / self._divisor))
        return self.random.integers(_FIRST_TOKEN, self._vocab_size, length).tolist()

    def quantile(self, table: tuple[int, ...], place: float) -> float:
        return float(np.interp(place, np.linspace(0, 1, len(table)), table))


def _judged(name: str, pair: int, vocab_size: int, divisor: int) -> list[JudgePrompt]:
    shared, own = _Writer(vocab_size, divisor, 0), _Writer(vocab_size, divisor, 1, pair)
    preamble = shared.tokens(PREAMBLE_TOKENS)
    headings = [shared.tokens(HEADING_TOKENS) for _ in range(3)]
    criteria = [shared.tokens(count) for count in CRITERION_TOKENS] if name == "22" else [[]]
    ending = shared.tokens(ENDING_TOKENS)
    instruction = own.tokens(own.quantile(INSTRUCTION_TOKENS, own.random.random()))
    place, is_same, other = own.random.random(3)
    places = (place, place if is_same < SAME_LENGTH_SHARE else other)
    responses = [own.tokens(own.quantile(RESPONSE_TOKENS, where)) for where in places]
    start = [*preamble, *headings[0], *instruction]
    bodies = [[*start, *headings[1], *first, *headings[2], *second] for first, second in (responses, responses[::-1])]
    return [
        JudgePrompt([*body, *criterion, *ending], LABELS, pair, order)
        for order, body in enumerate(bodies)
        for criterion in criteria
    ]


def _options(name: str, query: int, vocab_size: int, divisor: int) -> list[JudgePrompt]:
    """Options of one query, each judged alone after the query; queries share nothing."""
    shared_tokens, option_tokens = OPTION_WORKLOADS[name]
    writer = _Writer(vocab_size, divisor, 2, query)
    start = writer.tokens(shared_tokens)
    return [JudgePrompt([*start, *writer.tokens(option_tokens)], LABELS, query, 0) for _ in range(OPTIONS)]
