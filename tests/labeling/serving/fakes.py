"""A judge for protocol tests, and a server in a thread of this process."""

from __future__ import annotations

import hashlib
import http.client
import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.options.serving import ServeOptions
from preftree.labeling.serving.server import listen
from preftree.labeling.types import RequestScores, ScoreRequest
from tests.labeling.fakes import FakeEncoded, FakeScorer

_SECONDS = 20


class FakeJudge(FakeScorer):
    """Scores that follow from the prompt's bytes; batches wait while `gate` is closed.

    A prompt with "TOO LONG" in it cannot be encoded, "NOT FINITE" scores nan, "BOOM" breaks the engine. `begun` counts
    the batches that were begun.
    """

    def __init__(self, window_tokens: int = 1 << 20) -> None:
        super().__init__(window_tokens)
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)

    def encode(self, request: ScoreRequest) -> FakeEncoded:
        ids = super().encode(request).ids
        return FakeEncoded(ids, [[place] for place in range(len(request.labels))])

    def render(self, request: ScoreRequest) -> str:
        return f"<|user|>{request.user}<|end|><|assistant|>{request.answer_start}"

    def score(self, encoded: Sequence[FakeEncoded]) -> list[RequestScores]:
        self.begun.release()
        assert self.gate.wait(_SECONDS)
        self.calls.append(len(encoded))
        return [self._scores(bytes(entry.ids), len(entry.labels)) for entry in encoded]

    def _scores(self, prompt: bytes, labels: int) -> RequestScores:
        if b"BOOM" in prompt:
            raise RuntimeError("the engine broke")
        digest = hashlib.sha256(prompt).digest()
        weights = [1 + digest[place] for place in range(labels)]
        logprob = [math.log(weight / sum(weights)) for weight in weights]
        return RequestScores.single(tuple(logprob), math.nan if b"NOT FINITE" in prompt else 0.9, len(prompt))


class Answer(NamedTuple):
    """Of HTTP. body: parsed where it is JSON."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> tuple[str | None, str]:
        """Field and reason."""
        return self.body["error"].get("field"), self.body["error"]["reason"]


class Client:
    """Speaks to a server at `url`, a connection for each request."""

    def __init__(self, url: str, **headers: str) -> None:
        self.address = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self._headers = {"Content-Type": "application/json", **headers}

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=_SECONDS)

    def begin(self, method: str, path: str, body: Any = None) -> http.client.HTTPConnection:
        """A request whose answer is not read yet."""
        connection = self.connection()
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, self._headers)
        return connection

    def __call__(self, method: str, path: str, body: Any = None) -> Answer:
        return answer_of(self.begin(method, path, body))


def answer_of(connection: http.client.HTTPConnection) -> Answer:
    with connection.getresponse() as response:
        content = response.read()
        is_json = response.headers.get_content_type() == "application/json"
        body = json.loads(content) if is_json else content.decode()
        found = Answer(response.status, body, {name.lower(): value for name, value in response.getheaders()})
    connection.close()
    return found


@contextmanager
def serving(judge: object, **options: Any) -> Iterator[Client]:
    """A server at a free port; leaving the context stops it, and fails where it does not stop."""
    listening = listen(ServeOptions(**{"port": 0, "window": 0, **options}), cast(AnyJudge, judge))
    if isinstance(judge, FakeJudge):
        judge.begun = threading.Semaphore(0)  # without the warm-up
    thread = threading.Thread(target=listening.run, daemon=True)
    thread.start()
    try:
        yield Client(listening.url)
    finally:
        listening.server.should_exit = True
        thread.join(_SECONDS)
        assert not thread.is_alive()
