"""The outermost layer of the server: who may ask, how much a request may hold, and whether its client still waits."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from preftree.labeling.serving.metrics import Metrics
from preftree.labeling.serving.refused import Refused
from preftree.labeling.terminal import one_line

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATH = "/health"  # for load balancers, which have no token
_BODIES_HELD = 64
_DRAIN_SECONDS = 2.0


class Guard:
    """An ASGI application around another one, which gets whole bodies and is cancelled when its client leaves."""

    def __init__(
        self, app: App, metrics: Metrics, paths: frozenset[str], *, body_limit: int, seconds: float, token: str | None
    ) -> None:
        """paths: those that are counted by name. seconds: that a client may take to send a body."""
        self._app, self._metrics, self._paths = app, metrics, paths
        self._body_limit, self._seconds = body_limit, seconds
        self._token = None if token is None else f"Bearer {token}".encode()
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, path = time.perf_counter(), scope["path"] if scope["path"] in self._paths else "other"
        answer = _Answer(send)
        try:
            await self._answered(scope, receive, answer)
        except Refused as refused:
            if refused.status == 413:
                await _drained(receive)
            await answer.refuse(refused)
        except Exception as error:
            logging.getLogger("preftree").error(f"{path}: {one_line(f'{type(error).__name__}: {error}')}")
            await answer.refuse(Refused(500, f"internal error: {type(error).__name__}"))
        if answer.status is None:
            self._metrics.dropped.inc()
            return
        self._metrics.requests.labels(path, str(answer.status)).inc()
        self._metrics.seconds.labels(path).observe(time.perf_counter() - began)

    async def _answered(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        headers = dict(scope["headers"])
        if self._token is not None and scope["path"] != OPEN_PATH:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, self._token):
                raise Refused(401, "the token is missing or wrong; send the header Authorization: Bearer TOKEN")
        body = _Body(self, receive)
        try:
            whole = await self._read(body, headers.get(b"content-length", b""))
            if whole is not None:
                await self._run(scope, whole, receive, answer)
        finally:
            self._held -= body.size

    async def _read(self, body: _Body, announced: bytes) -> bytes | None:
        try:
            async with asyncio.timeout(self._seconds):
                return await body.read(announced)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self._seconds:g} s") from None

    async def _run(self, scope: Scope, whole: bytes, receive: Receive, answer: _Answer) -> None:
        """The application on a body; nothing but its end where the client leaves before."""
        gone = asyncio.ensure_future(_until_gone(receive))
        events: list[Event] = [{"type": "http.request", "body": whole, "more_body": False}]

        async def replayed() -> Event:
            return events.pop() if events else await asyncio.shield(gone)

        running = asyncio.ensure_future(self._app(scope, replayed, answer))
        try:
            await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            for task in (running, gone):
                task.cancel()
            await asyncio.gather(running, gone, return_exceptions=True)

    def hold(self, size: int, whole: int) -> None:
        """Raises Refused for a body of more than the limit, or while too many bytes of others are held."""
        if whole > self._body_limit:
            raise Refused(413, f"the body has more than {self._body_limit:,} bytes; --body-limit sets the limit")
        if self._held + size > _BODIES_HELD * self._body_limit:
            raise Refused(503, "too many large requests at once", retry_after=1)
        self._held += size


class _Body:
    """A request's body as it arrives.

    Attributes:
        size: bytes that its guard counts as held.
    """

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self._guard, self._receive, self.size = guard, receive, 0

    async def read(self, announced: bytes) -> bytes | None:
        """All of it; None where the client leaves before. announced: the length according to the head."""
        self._guard.hold(0, int(announced) if announced.isdigit() else 0)
        parts = []
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                return None
            part = event.get("body", b"")
            self._guard.hold(len(part), self.size + len(part))
            self.size += len(part)
            parts.append(part)
            if not event.get("more_body", False):
                return b"".join(parts)


class _Answer:
    """A `send` of ASGI that knows what was sent.

    Attributes:
        status: of the answer; None before there is one.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, event: Event) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
        await self._send(event)

    async def refuse(self, refused: Refused) -> None:
        """Unless an answer was begun. The connection is closed: a rest of the body may still be on its way."""
        if self.status is not None:
            return
        content = json.dumps(refused.body).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(content)),
            "connection": "close",
            **refused.headers,
        }
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": refused.status, "headers": encoded})
        await self({"type": "http.response.body", "body": content})


async def _drained(receive: Receive) -> None:
    """Reads and forgets what a client still sends, for a while: most see an answer only when they have sent all."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (await receive()).get("more_body", False):
                pass


async def _until_gone(receive: Receive) -> Event:
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return event
