"""Callers in several threads served together: what waits while one call runs goes into the next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass
class _Ticket(Generic[Asked, Answer]):
    """One caller's call. answers: the one there is, none before it is served. error: in its place."""

    asked: Asked
    answers: tuple[Answer, ...] = ()
    error: Exception | None = None

    @property
    def is_served(self) -> bool:
        return bool(self.answers) or self.error is not None


class Gathering(Generic[Asked, Answer]):
    """A function of one call that answers calls of several threads at once. No thread of its own runs.

    Whoever comes while nothing runs serves all that wait by then, its own call among them; the others find theirs
    served when it is their turn.
    """

    def __init__(self, serve: Callable[[Sequence[Asked]], Sequence[Answer]]) -> None:
        """serve: answers to calls, one each, in order."""
        self._serve = serve
        self._turn = threading.Lock()
        self._waiting: list[_Ticket[Asked, Answer]] = []

    def __call__(self, asked: Asked) -> Answer:
        """The answer to `asked`. An error that only another caller's call brings about does not reach this one."""
        mine: _Ticket[Asked, Answer] = _Ticket(asked)
        self._waiting.append(mine)
        with self._turn:
            if not mine.is_served:
                self._serve_waiting(mine)
        if mine.error is not None:
            raise mine.error
        return mine.answers[0]

    def _serve_waiting(self, mine: _Ticket[Asked, Answer]) -> None:
        # Others may add to the list meanwhile: what is taken is counted first.
        count = len(self._waiting)
        taken, self._waiting[:count] = self._waiting[:count], []
        try:
            self._answer(taken)
        finally:
            # Interrupted, this thread has no answer for anyone; the others serve themselves.
            self._waiting += [ticket for ticket in taken if not ticket.is_served and ticket is not mine]

    def _answer(self, tickets: Sequence[_Ticket[Asked, Answer]]) -> None:
        try:
            for ticket, answer in zip(tickets, self._serve([ticket.asked for ticket in tickets]), strict=True):
                ticket.answers = (answer,)
        except Exception as error:
            if len(tickets) == 1:
                tickets[0].error = error
                return
            for ticket in tickets:
                self._answer([ticket])
