"""A queue that turns many small requests into few batches. Knows neither HTTP nor models."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from preftree.labeling.serving.refused import Refused

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

BLOCK_TOKENS = 32
_LONGEST_RETRY = 60


def prefix_blocks(ids: Sequence[int]) -> tuple[int, ...]:
    """A hash of every 32nd prefix of a prompt: as many of these as two prompts have in common, that much they share."""
    blocks, before = [], 0
    for start in range(0, len(ids), BLOCK_TOKENS):
        before = hash((before, *ids[start : start + BLOCK_TOKENS]))
        blocks.append(before)
    return tuple(blocks)


@dataclass(frozen=True)
class Job(Generic[Asked]):
    """What one answer is wanted for.

    Attributes:
        asked: given to the function that answers.
        tokens: of its prompts.
        blocks: see `prefix_blocks`; of all its prompts.
    """

    asked: Asked
    tokens: int
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class Limits:
    """When a batch begins, and how much may wait.

    Attributes:
        window: seconds for which the first job of a batch waits for others.
        batch_tokens: unique tokens that fill a batch; it then begins at once.
        batch_jobs: jobs that fill a batch, however many tokens they have.
        queue_tokens: prompt tokens that may wait.
    """

    window: float
    batch_tokens: int
    batch_jobs: int
    queue_tokens: int

    def are_full(self, blocks: int, jobs: int) -> bool:
        """Whether these are a whole batch."""
        return blocks * BLOCK_TOKENS >= self.batch_tokens or jobs >= self.batch_jobs


@dataclass(eq=False)
class _Ticket(Generic[Asked, Answer]):
    """A job in the queue. since: when it came, on the event loop's clock."""

    job: Job[Asked]
    client: str
    since: float
    answer: asyncio.Future[Answer | Exception]


class Batcher(Generic[Asked, Answer]):
    """Answers jobs in batches, one batch at a time, in a thread of its own; the event loop never waits for it.

    Clients take turns: a batch gets one job of each client, then a second of each, until it is full. All but `serve`
    runs in the event loop.
    """

    def __init__(self, serve: Callable[[Sequence[Asked]], Sequence[Answer | Exception]], limits: Limits) -> None:
        """serve: answers to jobs, or what went wrong with each; called in the batcher's thread."""
        self._serve = serve
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, "preftree-judge")
        self._clients: OrderedDict[str, OrderedDict[_Ticket[Asked, Answer], None]] = OrderedDict()
        self._blocks: Counter[int] = Counter()
        self._changed = asyncio.Event()
        self._closing = False
        self._tokens_per_second = math.inf
        self.waiting_tokens = 0
        self.waiting_jobs = 0

    async def answers(self, jobs: Sequence[Job[Asked]], client: str) -> list[Answer]:
        """The answer to each job. One that is cancelled is taken out of the queue.

        Raises Refused where the queue is full or closed, and what went wrong with the first job that has no answer.
        """
        self._admit(jobs)
        loop = asyncio.get_running_loop()
        tickets = [_Ticket[Asked, Answer](job, client, loop.time(), loop.create_future()) for job in jobs]
        for ticket in tickets:
            self._put(ticket)
        try:
            found = [await ticket.answer for ticket in tickets]
        finally:
            for ticket in tickets:
                self._remove(ticket)
        for answer in found:
            if isinstance(answer, Exception):
                raise answer
        return found  # type: ignore[return-value]

    async def run(self) -> None:
        """Serves batches until `close`, and whatever waits by then."""
        while self._clients or not self._closing:
            self._changed.clear()
            rest = self._rest_of_window()
            if rest is not None and rest <= 0:
                await self._answer(self._take())
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), rest)
        self._thread.shutdown()

    def close(self) -> None:
        """Take no more jobs. `run` ends when those that wait are answered."""
        self._closing = True
        self._changed.set()

    def _admit(self, jobs: Sequence[Job[Asked]]) -> None:
        """A request that is larger than the queue is taken where nothing else waits."""
        if self._closing:
            raise Refused(503, "the server is shutting down", retry_after=_LONGEST_RETRY)
        if self._clients and self.waiting_tokens + sum(job.tokens for job in jobs) > self._limits.queue_tokens:
            seconds = min(_LONGEST_RETRY, max(1, math.ceil(self.waiting_tokens / self._tokens_per_second)))
            raise Refused(503, f"the queue is full: {self.waiting_tokens:,} tokens wait", retry_after=seconds)

    def _put(self, ticket: _Ticket[Asked, Answer]) -> None:
        self._clients.setdefault(ticket.client, OrderedDict())[ticket] = None
        self._blocks.update(ticket.job.blocks)
        self.waiting_tokens += ticket.job.tokens
        self.waiting_jobs += 1
        self._changed.set()

    def _remove(self, ticket: _Ticket[Asked, Answer]) -> None:
        """Out of the queue, where it is still there."""
        own = self._clients.get(ticket.client, OrderedDict())
        if ticket not in own:
            return
        del own[ticket]
        if not own:
            del self._clients[ticket.client]
        for block in ticket.job.blocks:
            self._blocks[block] -= 1
            if not self._blocks[block]:
                del self._blocks[block]
        self.waiting_tokens -= ticket.job.tokens
        self.waiting_jobs -= 1

    def _rest_of_window(self) -> float | None:
        """Seconds until the next batch begins; None where nothing waits."""
        if not self._clients:
            return None
        if self._closing or self._limits.are_full(len(self._blocks), self.waiting_jobs):
            return 0.0
        oldest = min(next(iter(own)).since for own in self._clients.values())
        return oldest + self._limits.window - asyncio.get_running_loop().time()

    def _take(self) -> list[_Ticket[Asked, Answer]]:
        """The next batch: jobs of all clients in turn, until it is full."""
        batch: list[_Ticket[Asked, Answer]] = []
        blocks: set[int] = set()
        while self._clients and not self._limits.are_full(len(blocks), len(batch)):
            client, own = next(iter(self._clients.items()))
            ticket = next(iter(own))
            self._clients.move_to_end(client)
            self._remove(ticket)
            blocks.update(ticket.job.blocks)
            batch.append(ticket)
        return batch

    async def _answer(self, batch: Sequence[_Ticket[Asked, Answer]]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found: Sequence[Answer | Exception]
        try:
            found = await loop.run_in_executor(self._thread, self._serve, [ticket.job.asked for ticket in batch])
        except Exception as error:
            found = [error] * len(batch)
        tokens = sum(ticket.job.tokens for ticket in batch)
        self._tokens_per_second = tokens / max(loop.time() - began, 1e-3)
        for ticket, answer in zip(batch, found, strict=True):
            if not ticket.answer.done():
                ticket.answer.set_result(answer)
