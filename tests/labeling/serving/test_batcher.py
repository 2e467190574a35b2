"""The queue of the server: what becomes one batch, whose turn it is, and what is never lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from preftree.labeling.serving.batcher import BLOCK_TOKENS, Batcher, Job, Limits, prefix_blocks
from preftree.labeling.serving.refused import Refused

Steps = Callable[[Batcher[str, str]], Awaitable[None]]
FOREVER = 30.0


class Served:
    """Answers in capitals, and keeps the batches. "bad" has no answer; while `gate` is closed nothing has."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, asked: Sequence[str]) -> list[str | Exception]:
        self.batches.append(list(asked))
        assert self.gate.wait(FOREVER)
        return [ValueError("bad") if one == "bad" else one.upper() for one in asked]


def job(text: str, tokens: int = BLOCK_TOKENS) -> Job[str]:
    return Job(text, tokens, prefix_blocks([*text.encode(), *[0] * (tokens - len(text))]))


def run(serve: Callable[[Sequence[str]], Sequence[str | Exception]], limits: Limits, steps: Steps) -> None:
    async def main() -> None:
        batcher: Batcher[str, str] = Batcher(serve, limits)
        running = asyncio.ensure_future(batcher.run())
        async with asyncio.timeout(FOREVER):
            try:
                await steps(batcher)
            finally:
                batcher.close()
                await running
        assert batcher.waiting_jobs == batcher.waiting_tokens == 0

    asyncio.run(main())


def limits(
    window: float = 0.0, batch_tokens: int = 1 << 20, batch_jobs: int = 1 << 20, queue_tokens: int = 1 << 20
) -> Limits:
    return Limits(window, batch_tokens, batch_jobs, queue_tokens)


async def batch_begins(served: Served, number: int = 1) -> None:
    while len(served.batches) < number:
        await asyncio.sleep(0.001)


def test_blocks_count_what_prompts_share() -> None:
    """Catches hashes of blocks that do not depend on what is before them."""
    one, other = list(range(100)), [*range(64), *range(200, 236)]
    assert len({*prefix_blocks(one), *prefix_blocks(other)}) == 4 + 2
    assert len({*prefix_blocks([1, *one[1:]]), *prefix_blocks([2, *one[1:]])}) == 8


def test_what_comes_within_the_window_is_one_batch() -> None:
    """Catches a queue that runs each request alone."""
    served = Served()

    async def steps(batcher: Batcher[str, str]) -> None:
        async def late() -> list[str]:
            await asyncio.sleep(0.01)
            return await batcher.answers([job("late")], "me")

        assert await asyncio.gather(batcher.answers([job("a"), job("b")], "me"), late()) == [["A", "B"], ["LATE"]]

    run(served, limits(window=0.3), steps)
    assert served.batches == [["a", "b", "late"]]


def test_a_full_batch_does_not_wait() -> None:
    """Catches a window that is waited for where nothing more would fit; shared tokens count once."""
    served = Served()

    async def steps(batcher: Batcher[str, str]) -> None:
        same = asyncio.ensure_future(batcher.answers([job("same")] * 50, "me"))
        await asyncio.sleep(0.05)
        assert not served.batches
        await asyncio.gather(same, batcher.answers([job("other")], "me"))

    run(served, limits(window=FOREVER, batch_tokens=2 * BLOCK_TOKENS), steps)
    assert served.batches == [["same"] * 50 + ["other"]]


def test_a_batch_has_so_many_jobs_at_most() -> None:
    """Catches a limit that is looked at before a batch begins and not while it is filled, or the other way round."""
    served = Served()

    async def steps(batcher: Batcher[str, str]) -> None:
        await batcher.answers([job(f"{place}") for place in range(4)], "me")

    run(served, limits(window=FOREVER, batch_jobs=2), steps)
    assert served.batches == [["0", "1"], ["2", "3"]]


def test_clients_take_turns() -> None:
    """Catches one client's thousand requests before another's one."""
    served = Served()

    async def steps(batcher: Batcher[str, str]) -> None:
        served.gate.clear()
        first = asyncio.ensure_future(batcher.answers([job("first")], "many"))
        await batch_begins(served)
        many = asyncio.ensure_future(batcher.answers([job(f"m{place}") for place in range(6)], "many"))
        await asyncio.sleep(0)
        one = asyncio.ensure_future(batcher.answers([job("one")], "few"))
        await asyncio.sleep(0)
        served.gate.set()
        await asyncio.gather(first, many, one)

    run(served, limits(batch_tokens=2 * BLOCK_TOKENS), steps)
    assert served.batches[:3] == [["first"], ["m0", "one"], ["m1", "m2"]]


def test_a_full_queue_refuses() -> None:
    """Catches a queue without bound; one request that is larger than the queue is taken all the same."""
    served = Served()

    async def steps(batcher: Batcher[str, str]) -> None:
        served.gate.clear()
        first = asyncio.ensure_future(batcher.answers([job("first")], "me"))
        await batch_begins(served)
        large = asyncio.ensure_future(batcher.answers([job("large", 1000)], "me"))
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="the queue is full: 1,000 tokens wait") as refused:
            await batcher.answers([job("more")], "you")
        assert refused.value.status == 503
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1
        served.gate.set()
        assert await asyncio.gather(first, large) == [["FIRST"], ["LARGE"]]

    run(served, limits(queue_tokens=500), steps)


def test_what_is_cancelled_is_not_run() -> None:
    """Catches work for clients that have left, and room that they keep."""
    served = Served()

    async def steps(batcher: Batcher[str, str]) -> None:
        served.gate.clear()
        first = asyncio.ensure_future(batcher.answers([job("first")], "me"))
        await batch_begins(served)
        gone = asyncio.ensure_future(batcher.answers([job("gone"), job("too")], "me"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        assert batcher.waiting_tokens == 0
        served.gate.set()
        await first
        assert await batcher.answers([job("next")], "me") == ["NEXT"]

    run(served, limits(), steps)
    assert served.batches == [["first"], ["next"]]


def test_a_bad_job_is_its_own_error() -> None:
    """Catches an error that reaches the other clients of a batch."""
    served = Served()

    async def steps(batcher: Batcher[str, str]) -> None:
        good, bad = await asyncio.gather(
            batcher.answers([job("good")], "me"), batcher.answers([job("bad")], "me"), return_exceptions=True
        )
        assert good == ["GOOD"]
        assert isinstance(bad, ValueError)

    run(served, limits(window=0.05), steps)


def test_a_broken_server_answers_everybody_and_goes_on() -> None:
    """Catches a queue that stops, with clients that wait forever, when a batch fails."""
    calls = []

    def serve(asked: Sequence[str]) -> list[str | Exception]:
        calls.append(asked)
        if len(calls) == 1:
            raise RuntimeError("broke")
        return [one.upper() for one in asked]

    async def steps(batcher: Batcher[str, str]) -> None:
        with pytest.raises(RuntimeError, match="broke"):
            await batcher.answers([job("a")], "me")
        assert await batcher.answers([job("b")], "me") == ["B"]

    run(serve, limits(), steps)


def test_closing_answers_what_was_taken() -> None:
    """Catches a shutdown that drops requests, and one that takes new ones."""
    served = Served()

    async def steps(batcher: Batcher[str, str]) -> None:
        served.gate.clear()
        taken = [asyncio.ensure_future(batcher.answers([job(f"{place}")], "me")) for place in range(3)]
        await batch_begins(served)
        batcher.close()
        with pytest.raises(Refused, match="shutting down"):
            await batcher.answers([job("late")], "me")
        served.gate.set()
        assert await asyncio.gather(*taken) == [["0"], ["1"], ["2"]]

    run(served, limits(batch_tokens=BLOCK_TOKENS), steps)
