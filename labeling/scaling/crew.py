"""The workers of a run: greeted, loaded, given shards, and replaced where one is lost."""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from preftree.engine.errors import ModelError, OutputError
from preftree.labeling.answers.host import differences, host_of, kind_of
from preftree.labeling.data.folder import folder_of
from preftree.labeling.runs.manifest import version, versions_with
from preftree.labeling.scaling.cluster import Cluster, Lost
from preftree.labeling.scaling.events import Events
from preftree.labeling.scaling.shards import Shard
from preftree.labeling.scaling.worker import Greeting, Outcome, Setting
from preftree.labeling.terminal import count, one_line

_LOGGER = logging.getLogger("preftree")
# One shard is judged, and the next one is there when it is done.
_AT_ONCE = 2
_SECONDS_TO_COME, _SECONDS_BETWEEN_MESSAGES = 60.0, 30.0
_STARTS = 3  # that fail one after the other, until the run gives up
# Of a judge that describes itself, what is a matter of the machine; see `preftree.labeling.answers.host`.
_OF_THE_MACHINE = {
    *("device", "device_name", "instructions", "threads", "arithmetic", "batch_tokens", "prefix_cache", "layers"),
    *("devices", "model", "model_files", "versions"),
}


class Call(NamedTuple):
    """A method of a worker that was called.

    Attributes:
        reference: to what it will return.
        method: its name.
        shard: what `judge` was called with.
    """

    reference: Any
    method: str
    shard: Shard | None = None


@dataclass
class Member:
    """A worker as the driver sees it.

    Attributes:
        actor: its handle.
        node: the name of its machine, once it is known.
        is_ready: whether it has a model.
        calls: what it has to do yet, in this order.
    """

    actor: Any
    node: str = "?"
    is_ready: bool = False
    calls: deque[Call] = field(default_factory=deque)

    def call(self, method: str, *arguments: Any, shard: Shard | None = None) -> None:
        """Does not wait."""
        self.calls.append(Call(getattr(self.actor, method).remote(*arguments), method, shard))

    @property
    def is_loading(self) -> bool:
        """Whether it is there and has no model yet."""
        return self.node != "?" and not self.is_ready

    @property
    def shards(self) -> list[Shard]:
        """That it has."""
        return [call.shard for call in self.calls if call.shard is not None]


class Crew:
    """Methods raise PreftreeError where the run cannot go on.

    Attributes:
        described: what the judge of the first worker says of itself.
        events: what happened.
    """

    def __init__(self, cluster: Cluster, setting: Setting, same_hardware: bool) -> None:
        self.described: dict[str, Any] = {}
        self.events = Events()
        self._cluster, self._setting, self._is_strict = cluster, setting, same_hardware
        self._check = (f".workers-{secrets.token_hex(4)}", secrets.token_bytes(16))
        self._members: list[Member] = []
        self._begin: tuple[str, int] | None = None
        self._failed_starts, self._said = 0, time.monotonic()

    def gather(self) -> None:
        """Starts the workers, and waits until each says that it sees the run's directory, or a minute."""
        folder = folder_of(self._setting.folder)
        self._guarded(lambda: folder.write(*self._check))
        self._members = [self._started() for _ in range(self._cluster.workers)]
        deadline = time.monotonic() + _SECONDS_TO_COME
        while (left := deadline - time.monotonic()) > 0:
            waiting = [member for member in self._members if member.node == "?"]
            if not waiting:
                return
            reference = self._cluster.wait([member.calls[0].reference for member in waiting], left)
            if reference is not None:
                self._welcome(next(one for one in waiting if one.calls[0].reference == reference), is_first=True)
        if all(member.node == "?" for member in self._members):
            raise OutputError(
                f"no worker has started within {_SECONDS_TO_COME:.0f} s: the cluster is busy, or its machines lack "
                "preftree; see `ray status`"
            )

    def describe(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What a judge says of itself before it is loaded: of a worker whose bits are those of `before`, if any is."""
        members = [member for member in self._members if member.node != "?"]
        found: list[dict[str, Any]] = []
        for call in [member.actor.describe.remote(before) for member in members]:
            try:
                found.append(self._cluster.result(call))
            except Lost as error:
                raise ModelError(f"a worker cannot describe its judge: {error}") from None
        known = ("arithmetic", "device_name")
        return next((one for one in found if all(one.get(name) == before.get(name) for name in known)), found[0])

    def load(self) -> dict[str, Any]:
        """Loads the model everywhere; what the judge of the first worker that has done so says of itself.

        Where all have to be of one kind, those that are there finish first: none of another kind is found in mid-run.
        """
        for member in self._members:
            if member.node != "?":
                member.call("load")
        while not self.described or (self._is_strict and any(member.is_loading for member in self._members)):
            self._step()
        return self.described

    @property
    def size(self) -> int:
        """How many workers there are to be."""
        return self._cluster.workers

    def begin(self, run: str, after: int) -> None:
        """What workers need to know before they write, see `Worker.begin`."""
        self._begin = (run, after)
        for member in self._members:
            if member.is_ready:
                member.call("begin", *self._begin)

    def judge(
        self,
        shards: Iterator[Shard],
        done: Callable[[Outcome], None],
        reject: Callable[[Shard, str], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Has all shards judged, whoever dies meanwhile.

        done: gets what becomes of a shard. reject: gets a row that no worker survives, and why.
        """
        again: deque[Shard] = deque()
        is_told = False
        while True:
            if stopping() and not is_told:
                is_told = True
                for member in self._members:
                    self._cluster.stop(member.actor)
            if not is_told:
                again.extend(() if again else islice(shards, 1))
                self._feed(again, shards)
            is_judging = any(member.shards for member in self._members)
            if not is_judging and (is_told or not again):
                return
            self._step(again, done, reject)

    def close(self) -> None:
        for member in self._members:
            self._cluster.kill(member.actor)
        folder_of(self._setting.folder).remove(self._check[0])

    def _feed(self, again: deque[Shard], shards: Iterator[Shard]) -> None:
        """One for each worker that has none, before anybody gets a second."""
        for number in range(_AT_ONCE):
            for member in self._members:
                if member.is_ready and len(member.shards) == number:
                    shard = again.popleft() if again else next(shards, None)
                    if shard is None:
                        return
                    member.call("judge", shard, shard=shard)

    def _step(
        self,
        again: deque[Shard] | None = None,
        done: Callable[[Outcome], None] = lambda outcome: None,
        reject: Callable[[Shard, str], None] = lambda shard, reason: None,
    ) -> None:
        """Waits for one call of one worker, for a moment."""
        waiting = {member.calls[0].reference: member for member in self._members if member.calls}
        if not any(member.is_ready for member in self._members):
            self._say_that_nobody_works()
        if not self._members:
            raise OutputError(f"no worker is left: {self.events.last or 'the cluster has no room for any'}")
        reference = self._cluster.wait(list(waiting), 1.0) if waiting else None
        if reference is None:
            return
        member = waiting[reference]
        method = member.calls[0].method
        try:
            if method == "greet":
                self._welcome(member, is_first=False)
                return
            found = self._cluster.result(reference)
        except Lost as error:
            self._replace(member, str(error), deque() if again is None else again, reject)
            return
        member.calls.popleft()
        if method == "load":
            self._loaded(member, found)
        elif method == "judge":
            self._failed_starts = 0
            self.events.shards += 1
            done(found)

    def _started(self) -> Member:
        member = Member(self._cluster.start(self._setting))
        member.call("greet", *self._check)
        return member

    def _welcome(self, member: Member, is_first: bool) -> None:
        """A worker is there. One that comes late and is of no use is left out; at the beginning it is an error."""
        try:
            greeting = self._cluster.result(member.calls[0].reference)
        except Lost as error:
            if not is_first:
                raise
            raise OutputError(f"a worker cannot begin: {error}; is preftree installed on every machine?") from None
        member.calls.popleft()
        member.node = greeting.node
        if (said := self._complaint(greeting)) is None:
            if not is_first:
                member.call("load")
        elif is_first:
            raise OutputError(said)
        else:
            self._leave_out(member, said)

    def _complaint(self, greeting: Greeting) -> str | None:
        node = one_line(greeting.node)
        if greeting.version != version():
            return (
                f"the worker on {node} has preftree {greeting.version}, and this is {version()}; install one version "
                "on every machine"
            )
        if not greeting.sees:
            return (
                f"{self._setting.folder} is not shared: the worker on {node} does not see a file that was written "
                "there; name a directory that all machines mount at this path, or a URL such as s3://bucket/run"
            )
        return None

    def _loaded(self, member: Member, described: dict[str, Any]) -> None:
        """A worker has a model: is it the one of the others?"""
        first = self.described = self.described or described
        for name in sorted((first.keys() | described.keys()) - _OF_THE_MACHINE):
            if first.get(name) != described.get(name):
                raise ModelError(
                    f"the worker on {member.node} has another {name} ({described.get(name)}, not {first.get(name)}); "
                    "give all machines the same model, and name what `auto` stands for (--dtype)"
                )
        kinds = [kind_of(host_of({"scorer": one, "versions": versions_with(one)})) for one in (first, described)]
        if kinds[0] != kinds[1] and self._is_strict:
            theirs, mine = differences(kinds)
            raise OutputError(
                f"the worker on {member.node} is of another kind than the first: {mine}, not {theirs}; --same-hardware "
                "asks for one: give it machines of one kind"
            )
        member.is_ready = True
        self.events.nodes[member.node] += 1
        if self._begin is not None:
            member.call("begin", *self._begin)

    def _replace(self, member: Member, reason: str, again: deque[Shard], reject: Callable[[Shard, str], None]) -> None:
        """A worker is lost. What it was judging is tried again, in smaller shards; the rest waits for another one."""
        shards = member.shards
        self._cluster.kill(member.actor)
        self.events.lost(member.node, reason)
        _LOGGER.warning(f"the worker on {one_line(member.node)} is lost: {reason}; another one takes its place")
        self._failed_starts += not member.is_ready
        if self._failed_starts >= _STARTS:
            raise ModelError(f"{count(_STARTS, 'worker')} one after the other could not be started: {reason}")
        if shards:
            again.extendleft(reversed(shards[1:]))
            failed = shards[0]._replace(failures=shards[0].failures + 1)
            if failed.failures < 2:
                again.appendleft(failed)
            elif len(failed.rows) > 1:
                again.extend(failed.halves())
            elif failed.failures < _STARTS:
                again.append(failed)
            else:
                self.events.rejected += 1
                reject(failed, f"its worker was lost each of the last {_STARTS} times: {reason}")
        self._members[self._members.index(member)] = self._started()

    def _leave_out(self, member: Member, said: str) -> None:
        _LOGGER.warning(f"{said}; the run continues without it")
        self.events.last = said
        self._cluster.kill(member.actor)
        self._members.remove(member)

    def _say_that_nobody_works(self) -> None:
        if time.monotonic() - self._said >= _SECONDS_BETWEEN_MESSAGES:
            self._said = time.monotonic()
            _LOGGER.info("no worker has a model yet; waiting for machines of the cluster")

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except OSError as error:
            raise OutputError(f"cannot write to {self._setting.folder}: {error.strerror or error}") from error
