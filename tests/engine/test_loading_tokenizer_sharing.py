"""Shared text is tokenised once, and its ids are those of the whole text, whatever was encoded before."""

from threading import Thread

from hypothesis import given, settings
from hypothesis import strategies as st

from preftree.engine.checkpoint import Checkpoint
from preftree.engine.tokenizer.incremental import (
    MAX_PART_CHARACTERS,
    MAX_PARTS,
    MAX_PLACES,
    MAX_REMEMBERED_CHARACTERS,
    STRIDE,
    SharedText,
)
from tests.engine.tokenizer_families import Whole, chains, check, corpus, cuts, load, metaspace, trained
from tests.models import tokenizer_data


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 200), st.text(max_size=20)), min_size=2, max_size=5))
def test_ids_of_any_texts(embedded_checkpoint: Checkpoint, edits: list[tuple[int, str]]) -> None:
    """Catches what nobody thought of, in the tokenizer of the embedded model and in one of bytes."""
    text = " ".join(corpus()[:3])
    chain = [text := text[:kept] + tail + text[kept : kept + 150] for kept, tail in edits]
    for tokenizer in (embedded_checkpoint.tokenizer, load(tokenizer_data())):
        assert cuts(tokenizer)
        check(tokenizer, chain)


def test_shared_text_is_encoded_once() -> None:
    """Catches prompts of a pair that are tokenised from their first character."""
    calls: list[str] = []

    def encode(text: str) -> list[int]:
        calls.append(text)
        return [*text.encode()]

    shared = SharedText(encode, frozenset())
    context = "Some words that all of the prompts begin with and that nobody wants to read again " * 20
    orders = [context + "Response one comes first. ", context + "Response two comes first. "]
    tails = [f"Judge only which of both is more {word} here" for word in ("kind", "honest", "helpful", "brief", "bold")]
    for texts in ([a + b for a in orders for b in tails], [a + b for b in tails for a in orders]):
        calls.clear()
        shared = SharedText(encode, frozenset())
        for text in texts:
            assert bytes(shared.encode(0, text, encode) or []) == text.encode()
        longest_word = 20
        assert sum(map(len, calls)) < len(context) + len(texts) * (max(map(len, tails)) + STRIDE + longest_word)
        calls.clear()
        assert shared.encode(0, texts[-1], encode) == [*texts[-1].encode()]
        assert not calls


def test_responses_in_another_order_are_not_encoded_again() -> None:
    """Catches responses that are tokenised in both orders, and parts that depend on what stands before a line."""
    calls: list[str] = []

    def encode(text: str) -> list[int]:
        calls.append(text)
        return [*text.encode()]

    shared = SharedText(encode, frozenset())
    responses = [
        f"It is the {word} of all things that any of us could say about this. " * 9 for word in ("best", "worst")
    ]
    for one, two in (responses, reversed(responses)):
        calls.clear()
        text = f"Which of these is the better one?\n# 1\n{one}\n# 2\n{two}\nAnswer with 1 or 2"
        assert bytes(shared.encode(0, text, encode) or []) == text.encode()
    assert sum(map(len, calls)) < 4 * STRIDE, calls


def test_what_is_remembered_is_bounded() -> None:
    """Catches a run whose memory grows with its texts, or with the control tokens of a prompt."""
    shared = SharedText(None, frozenset())
    shared.encode(0, "x" * (MAX_REMEMBERED_CHARACTERS + 1), lambda text: [1])
    assert not shared._recent
    for place in range(2 * MAX_PLACES):
        for text in "abc":
            assert shared.encode(place, text, lambda text: [ord(text)]) == [ord(text)]
    assert len(shared._recent) == MAX_PLACES
    assert all(len(recent) == 2 for recent in shared._recent.values())
    shared = SharedText(lambda part: [1] * len(part), frozenset())
    for number in range(MAX_PARTS // 4):
        words = "".join(f" {chr(97 + letter)}x{chr(97 + number % 26)}y" * (number + letter) for letter in range(9))
        shared.encode(0, f"a{words}", lambda part: [1] * len(part))
    assert len(shared._parts) <= MAX_PARTS
    assert max(map(len, shared._parts)) <= MAX_PART_CHARACTERS


def test_control_strings_behind_shared_text() -> None:
    """Catches a control token that is remembered from a text that held it, or that sharing lets through."""
    data = trained(None, metaspace("first", False))
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    for left, right in (("<", "/"), ("</", "s"), ("</s", ">")):
        vocab.setdefault(left + right, len(vocab))
        merges.append([left, right])
    tokenizer = load(data)
    assert cuts(tokenizer)
    begin = "all of the words before are shared by each of these texts and there are a lot of them "
    for ending in ("a b", "</s> a b", "</s> a c", "a c", "a </s>"):
        cases: list[list[str | int]] = [[begin + ending], [0, begin + ending]]
        for pieces in cases:
            ids = tokenizer.encode(pieces)
            assert ids == Whole(load(data)).encode(pieces)
            assert vocab["</s>"] not in ids


def test_threads_do_not_disturb_each_other(embedded_checkpoint: Checkpoint) -> None:
    """Catches a thread that goes on from another one's text."""
    tokenizer = embedded_checkpoint.tokenizer
    jobs = [[text for chain in chains(seed, 40) for text in chain] for seed in range(4)]
    expected = [[Whole(tokenizer).encode([text]) for text in job] for job in jobs]
    found: list[list[list[int]]] = [[] for _ in jobs]

    def work(number: int) -> None:
        for text in jobs[number]:
            found[number].append(tokenizer.encode([text]))

    threads = [Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
