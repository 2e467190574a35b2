"""Rewards from a server (`preftree serve`). Only the standard library."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, groupby
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.integrations.unscored import Unscored
from preftree.labeling.methods.group import GroupLabel
from preftree.labeling.serving.rewards import Reward
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Message, Response, ResponseSet

_AT_ONCE = 64
_TRIES = 5
_LONGEST_WAIT = 30.0
_PATHS = ("/reward", "/get_reward", "/compare")
_UNAUTHORISED, _BUSY = 401, (503, 504)


class RemoteJudge:
    """Requests of one call are sent at once, and the server makes one trie of those that come together."""

    def __init__(self, url: str, token: str | None, timeout: float, rubric_column: str | None = None) -> None:
        """Check the URL.

        Args:
            url: of the server, with or without the path of a protocol.
            token: that it asks for.
            timeout: seconds for an answer.
            rubric_column: of samples, with the rubrics to send.
        """
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise UsageError(f"{url!r:.200} is no URL of a server, such as http://127.0.0.1:5000")
        base = url.rstrip("/")
        self._url = next((base.removesuffix(path) for path in _PATHS if base.endswith(path)), base)
        self._token, self._timeout, self._rubric_column = token, timeout, rubric_column

    def scored(self, samples: Sequence[Response]) -> list[Reward | Unscored]:
        """The reward of each response on its own; those of a prompt and a rubric in one request."""
        runs = groupby(samples, key=lambda sample: (sample.prompt, self._rubric(sample)))
        groups = [list(group) for _, group in runs]
        return list(chain.from_iterable(self._all(self._scored, groups)))

    def compared(self, samples: Sequence[ResponseSet]) -> list[GroupLabel | Unscored]:
        """Who won against whom among the responses of each prompt."""
        return list(self._all(self._compared, samples))

    def _all(self, ask: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(items))), "preftree-reward") as threads:
            yield from threads.map(ask, items)

    def _rubric(self, sample: Response) -> Any:
        """None for a sample without."""
        return None if self._rubric_column is None else sample.extra[self._rubric_column]

    def _scored(self, group: Sequence[Response]) -> list[Reward | Unscored]:
        asked = {"prompt": _turns(group[0].prompt), "responses": [sample.response for sample in group], "details": True}
        rubric = self._rubric(group[0])
        found = self._post("/reward", asked if rubric is None else {**asked, "rubric": rubric})
        if not isinstance(found, Unscored):
            with self._understood():
                return [_reward(one) for _, one in zip(group, found, strict=True)]
        # One that cannot be scored does not take the others with it.
        return [found] if len(group) == 1 else [self._scored([sample])[0] for sample in group]

    def _compared(self, sample: ResponseSet) -> GroupLabel | Unscored:
        found = self._post("/compare", {"prompt": _turns(sample.prompt), "responses": list(sample.responses)})
        if isinstance(found, Unscored):
            return found
        with self._understood():
            return GroupLabel(found["win_matrix"], found["label_mass"], found["position_gap"], prompt_tokens=0)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer; Unscored where the server refuses this request.

        Raises InputError where there is no answer in several tries, or a wrong one.
        """
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        request = Request(self._url + path, json.dumps(body).encode(), headers)
        reason = ""
        for number in range(_TRIES):
            wait = 2.0**number
            try:
                with urlopen(request, timeout=self._timeout) as answer, self._understood():
                    return json.load(answer)
            except HTTPError as error:
                reason = _reason(error)
                if error.code == _UNAUTHORISED:
                    raise UsageError(f"{self._url}: {reason}") from None
                if error.code not in _BUSY:
                    return Unscored(reason)
                wait = float(error.headers.get("Retry-After") or wait)
            except (URLError, OSError, http.client.HTTPException) as error:
                reason = one_line(str(getattr(error, "reason", error)) or type(error).__name__)
            if number < _TRIES - 1:
                time.sleep(min(wait, _LONGEST_WAIT))
        raise InputError(f"{self._url}: no answer in {_TRIES} tries: {reason}; start it with: preftree serve")

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """InputError for an answer of another shape than a preftree server's."""
        try:
            yield
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{self._url}: its answer is not that of a preftree server; is the URL right?") from None


def _turns(prompt: Sequence[Message]) -> list[dict[str, str]]:
    return [turn._asdict() for turn in prompt]


def _reward(answer: Mapping[str, float]) -> Reward:
    return Reward(answer["reward"], {name: value for name, value in answer.items() if name != "reward"}, 0)


def _reason(error: HTTPError) -> str:
    """What the server says is wrong."""
    try:
        said = json.load(error)["error"]
        return one_line(f"{said['field']}: {said['reason']}" if "field" in said else str(said["reason"]))
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {error.code}"
