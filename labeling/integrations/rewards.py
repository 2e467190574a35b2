"""Rewards of completions: what every framework's module calls."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Protocol

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.integrations.conversations import response_of
from preftree.labeling.integrations.groups import groups_of
from preftree.labeling.integrations.unscored import Unscored
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.group import GroupLabel
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.options.option import declared
from preftree.labeling.options.serving import ListenOptions, ProtocolOptions, QueueOptions, ServeOptions
from preftree.labeling.serving.rewards import Reward
from preftree.labeling.types import Rejected, Response, ResponseSet
from preftree.labeling.values import share, suggestion

logger = logging.getLogger("preftree")
_OF_SERVERS = {*declared(QueueOptions), *declared(ListenOptions), *declared(ProtocolOptions)}
_KNOWN = declared(ServeOptions).keys() - _OF_SERVERS - {"model"}


class Backend(Protocol):
    """A judge in this process, or a server."""

    def scored(self, samples: Sequence[Response]) -> list[Reward | Unscored]: ...
    def compared(self, samples: Sequence[ResponseSet]) -> list[GroupLabel | Unscored]: ...


class Rewards:
    """Scores completions. Nothing is loaded before the first of them, so that it can go to other processes."""

    def __init__(
        self,
        judge: AnyJudge | str | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        timeout: float = 120.0,
        compare: bool = False,
        drop: float = 0.0,
        seed: int = 0,
        rubric_column: str | None = None,
        **options: Any,
    ) -> None:
        """Check what is asked for.

        Args:
            judge: a loaded `preftree.Judge`, or the name of a model to load in this process.
            url: of a server (`preftree serve`), instead of a judge. Method and principles are the server's.
            token: that the server asks for.
            timeout: seconds that an answer of the server may take.
            compare: reward a completion by its win rate among those of its prompt, in [0, 1], each pair judged in both
                orders; identical ones share it. Otherwise each is scored on its own, in [-1, 1].
            drop: share of the principles that is left out for a prompt; see `preftree.labeling.integrations.dropping`.
            seed: of what is left out.
            rubric_column: of the dataset, with the rubric that a completion is judged by (method "rubric"; a server is
                started with --rubric-column rubric).
            options: as of `preftree serve`: method ("direct", or "rlaif" to compare; "principled" or "rubric"),
                principles, under, guard, add_principle, rubric, template, scale and so on; and of the model (dtype,
                device and so on) where it is to be loaded.

        Raises:
            UsageError: an option is unknown, out of range, or of no effect.
        """
        if rubric_column is not None and url is None:
            options["rubric_column"] = rubric_column
        _check(judge, url, compare, drop, options)
        self._judge, self._options = judge, options
        self.rubric_column = rubric_column
        self._url, self._token, self._timeout = url, token, timeout
        self.compares = compare or options.get("method") == "rlaif"
        self._drop, self._seed = drop, seed
        self._backend: Backend | None = None
        self._opening = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        given: dict[str, Any] = {"url": self._url, "token": self._token, "timeout": self._timeout}
        given |= {"compare": self.compares, "drop": self._drop, "seed": self._seed, **self._options}
        if self.rubric_column is not None:
            given["rubric_column"] = self.rubric_column
        return partial(Rewards, **given), (self._judge,)

    def score(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        ids: Sequence[Any] | None = None,
        rubrics: Sequence[Any] | None = None,
    ) -> list[Reward | None]:
        """The reward of each completion, all in one trie; None, with one line in the log, where there is none.

        Args:
            prompts: strings or messages, one for each completion; where completions are compared, those of a prompt
                follow each other.
            completions: strings or messages.
            ids: of the prompts, for `drop`; by default a hash of each.
            rubrics: one for each completion, as `rubric_column` holds them.
        """
        found = self._judged(prompts, completions, ids, rubrics)
        without = [(place, one) for place, one in enumerate(found) if isinstance(one, Unscored)]
        if without:
            place, first = without[0]
            many = f"{len(without):,} of {len(found):,} completions have no reward"
            logger.warning(f"{many}; the first is number {place}: {first.reason}")
        return [None if isinstance(one, Unscored) else one for one in found]

    def of_one(self, prompt: Any, completion: Any) -> Reward:
        """The reward of one completion, for frameworks that have no place for None. InputError where there is none."""
        (found,) = self._judged([prompt], [completion])
        if isinstance(found, Unscored):
            raise InputError(f"a completion has no reward: {found.reason}")
        return found

    def _judged(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        ids: Sequence[Any] | None = None,
        rubrics: Sequence[Any] | None = None,
    ) -> list[Reward | Unscored]:
        if len(prompts) != len(completions):
            raise InputError(f"there are {len(prompts)} prompts but {len(completions)} completions")
        if self.rubric_column is not None and rubrics is None:
            raise InputError(f"completions come without rubrics; is there a column {self.rubric_column!r}?")
        nothing = [None] * len(prompts)
        rows = [{} if self.rubric_column is None else {self.rubric_column: one} for one in rubrics or nothing]
        items = [response_of(*one) for one in zip(prompts, completions, ids or nothing, rows, strict=True)]
        if self.compares:
            return self._compared(prompts, items)
        found: list[Reward | Unscored] = [Unscored(getattr(item, "reason", "")) for item in items]
        asked = [place for place, item in enumerate(items) if isinstance(item, Response)]
        samples = [item for item in items if isinstance(item, Response)]
        for place, answer in zip(asked, self._open().scored(samples) if samples else [], strict=True):
            found[place] = answer
        return found

    def _compared(self, prompts: Sequence[Any], items: Sequence[Response | Rejected]) -> list[Reward | Unscored]:
        groups = groups_of(prompts, items)
        asked = [group for group in groups if len(group.texts) > 1]
        labels = self._open().compared([group.sample for group in asked]) if asked else []
        for group, label in zip(asked, labels, strict=True):
            group.label = label
        return [one for group in groups for one in group.rewards()]

    def _open(self) -> Backend:
        with self._opening:
            if self._backend is None:
                self._backend = self._opened()
            return self._backend

    def _opened(self) -> Backend:
        if self._url is not None:
            from preftree.labeling.integrations.remote import RemoteJudge

            return RemoteJudge(self._url, self._token, self._timeout, self.rubric_column)
        from preftree.labeling.integrations.local import LocalJudge
        from preftree.labeling.judge.protocol import load_judge
        from preftree.labeling.serving.judging import check_calibration, opened

        named = {"model": self._judge} if isinstance(self._judge, str) else {}
        method = "rlaif" if self.compares else "direct"
        options = ServeOptions(**{"method": method, **self._options, **named})
        judging = opened(options)
        if (judging.group if self.compares else judging.single) is None:
            what = "compares no completions" if self.compares else "scores no completion on its own"
            raise UsageError(f"method {options.method} {what}; use method principled, or another value of compare")
        judge = load_judge(options) if isinstance(self._judge, str) else self._judge
        assert judge is not None
        check_calibration(judging, options, judge)
        return LocalJudge(judge, judging, self._drop, self._seed)


def _check(
    judge: AnyJudge | str | None, url: str | None, compare: bool, drop: float, options: Mapping[str, Any]
) -> None:
    """UsageError for what is unknown, out of range, or of no effect."""
    if (judge is None) == (url is None):
        raise UsageError("give either a judge (a preftree.Judge, or a model to load) or the url of a server")
    for name in options.keys() - _KNOWN:
        raise UsageError(f"there is no option {name!r} for rewards; {suggestion(name, sorted(_KNOWN))}")
    if url is not None and (options or drop):
        named = ", ".join([*options, *(["drop"] if drop else [])])
        raise UsageError(f"{named}: the server judges as it was started; give the options to preftree serve")
    if judge is not None and not isinstance(judge, str) and (late := options.keys() & declared(ModelOptions)):
        raise UsageError(f"{', '.join(sorted(late))}: the judge is loaded already")
    if drop and options.get("method") != "principled":
        raise UsageError("drop leaves principles out, which only method principled has")
    if drop and options.get("draw"):
        raise UsageError("drop leaves principles out of a set, and draw makes a set for each prompt; give one of them")
    try:
        share(drop)
    except ValueError as error:
        raise UsageError(f"drop {error}") from None
    if compare and options.get("method") == "direct":
        raise UsageError("compare is for methods that compare two responses: rlaif or principled")


def log_columns(found: Sequence[Reward | None]) -> dict[str, list[float | None]]:
    """By name: a figure of each completion; None where it has none."""
    names = dict.fromkeys(name for reward in found if reward for name in reward.logs)
    return {name: [reward.logs.get(name) if reward else None for reward in found] for name in names}


def shared_rewards(options: Mapping[str, Any]) -> Rewards:
    """The same object for the same options: for functions that get theirs with every call."""
    return _shared(json.dumps(dict(options), sort_keys=True, default=list))


@cache
def _shared(options: str) -> Rewards:
    return Rewards(**json.loads(options))


def check_single(rewards: Rewards, framework: str) -> Rewards:
    """UsageError where completions are to be compared and the framework hands them over one by one."""
    if rewards.compares:
        raise UsageError(f"{framework} hands completions over one by one, so that none can be compared with others")
    return rewards
