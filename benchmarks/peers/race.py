"""All contestants in turns, round after round, so that a noisy minute hits all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.machine import Rates
from benchmarks.peers.answer import Answer
from benchmarks.peers.contestants import BFLOAT16, FLOAT32, Contestant
from benchmarks.peers.field import Field
from benchmarks.peers.settings import Setting, settings
from benchmarks.peers.transformers import check_agreement
from benchmarks.peers.worker import WorkerError
from benchmarks.workloads import Workload

# Pairs on which settings are tried, by workload: some thousand tokens, and more than one prefix. Padded batches share
# nothing, so that one pair of 22 prompts tells their sizes apart.
TRIAL_PAIRS = {"2": 8, "22": 2}
PADDED_TRIAL_PAIRS = {"2": 8, "22": 1}
TRIES = 2


@dataclass(frozen=True)
class Turn:
    """One contestant in one round.

    Attributes:
        answer: its own.
        rates: of matrix products in its type, right before and after it.
        ours: by type, seconds of preftree on the same prompts in the same round.
    """

    answer: Answer
    rates: tuple[Rates, Rates]
    ours: dict[str, float]


@dataclass
class Entry:
    """A contestant over all rounds.

    Attributes:
        contestant: which one.
        workload: what it is timed on.
        setting: its fastest.
        tried: by name of a setting, the seconds of its better try on a few pairs.
        turns: of each round.
    """

    contestant: Contestant
    workload: Workload
    setting: Setting
    tried: dict[str, float]
    turns: list[Turn] = field(default_factory=list)


class Race:
    """One workload. Made for one call of `run`."""

    def __init__(
        self, runners: Field, workload: Workload, padded_pairs: int | None, say: Callable[[str], None]
    ) -> None:
        """padded_pairs: time padded batches, and preftree beside them, on so many pairs only where prompts share a lot
        (workload 22); None for all. say: where progress goes."""
        self._field = runners
        self._workload = workload
        self._padded_pairs = padded_pairs if workload.name == "22" else None
        self._say = say
        self._entries: dict[Contestant, Entry] = {}

    def run(self, rounds: int) -> list[Entry]:
        """Every contestant that lasted. Raises WorkerError, DisagreementError."""
        for contestant in self._field.present:
            self._trying(contestant, self._enter)
        for number in range(rounds):
            self._say(f"workload {self._workload.name}, round {number + 1}")
            for contestant in self._field.present:
                self._trying(contestant, self._take_turn)
        return [self._entries[contestant] for contestant in self._field.present]

    def _trying(self, contestant: Contestant, action: Callable[[Contestant], None]) -> None:
        """A peer that fails is left out from now on."""
        try:
            action(contestant)
        except WorkerError as error:
            self._field.drop(contestant, error)

    def _enter(self, contestant: Contestant) -> None:
        """Find the fastest setting. Trying warms the process up, too."""
        whole = self._workload
        if contestant.family == "padded" and self._padded_pairs is not None:
            whole = whole.first(self._padded_pairs)
        few = whole.first((PADDED_TRIAL_PAIRS if contestant.family == "padded" else TRIAL_PAIRS)[whole.name])
        tried: dict[str, float] = {}
        choices = settings(contestant, whole)
        for _ in range(TRIES if len(choices) > 1 else 1):
            for choice in choices:
                seconds = self._field.run(contestant, choice, few).seconds
                tried[choice.name] = min(seconds, tried.get(choice.name, seconds))
        best = min(choices, key=lambda choice: tried[choice.name])
        self._entries[contestant] = Entry(contestant, whole, best, tried)
        if len(choices) > 1:
            told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in tried.items())
            self._say(f"workload {whole.name}, {contestant.name} on {few.num_pairs} pairs: {told}")

    def _take_turn(self, contestant: Contestant) -> None:
        entry = self._entries[contestant]
        before = self._field.rates(contestant.rate)
        answer = self._field.run(contestant, entry.setting, entry.workload)
        rates = before, self._field.rates(contestant.rate)
        entry.turns.append(Turn(answer, rates, self._ours(entry)))
        if contestant.dtype == FLOAT32.dtype and answer.logprobs is not None:
            reference = self._entries[FLOAT32].turns[-1].answer.logprobs
            assert reference is not None
            check_agreement(contestant.name, answer.logprobs, reference[: len(answer.logprobs)])
        self._say(f"  {contestant.name} ({entry.setting.name}): {answer.seconds:.2f} s")

    def _ours(self, entry: Entry) -> dict[str, float]:
        """Of preftree in bfloat16 and in the type of `entry`, which come first in every round."""
        if entry.contestant.is_ours:
            return {}
        wanted = {BFLOAT16.dtype, entry.contestant.dtype}
        own = [one for one in self._field.present if one.is_ours and one.dtype in wanted]
        if entry.workload is self._workload:
            return {one.dtype: self._entries[one].turns[-1].answer.seconds for one in own}
        return {one.dtype: self._field.run(one, self._entries[one].setting, entry.workload).seconds for one in own}
