"""Engine, peers and machine in turns, so that a noisy minute hits all of them; medians over the rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.flops import ModelFlops, model_flops, unique_trie
from benchmarks.machine import Rates, Roofline
from benchmarks.parts import forward_clock
from benchmarks.peers.transformers import Peer, check_agreement
from benchmarks.workloads import Workload
from preftree.engine.checkpoint import Checkpoint
from preftree.engine.engine import Engine

# As many prompts as the larger batch size holds: enough to tell the settings of a peer apart.
CALIBRATION_PROMPTS = 16
CALIBRATION_TRIES = 2


@dataclass(frozen=True)
class PeerResult:
    """One peer over all rounds. pairs: how many it was timed on. seconds: of each round.

    engine_seconds: of the engine on the same pairs in the same round. nats: largest difference of a log-probability.
    """

    setting: str
    pairs: int
    seconds: tuple[float, ...]
    engine_seconds: tuple[float, ...]
    nats: float

    @property
    def pairs_per_second(self) -> float:
        return statistics.median(self.pairs / seconds for seconds in self.seconds)

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as fast the engine was, by round."""
        return tuple(peer / engine for peer, engine in zip(self.seconds, self.engine_seconds, strict=True))

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class WorkloadResult:
    """One workload over all rounds. rows: that the engine ran, shared ones of two batches twice.

    seconds, forward_seconds: of the engine, by round; what is not forward is planning on the host. rates: the machine
    right before and after the engine, averaged, by round. extra_bytes: peak memory above the weights, where measured.
    """

    workload: Workload
    unique_tokens: int
    flops: ModelFlops
    rows: int
    batches: int
    seconds: tuple[float, ...]
    forward_seconds: tuple[float, ...]
    rates: tuple[Rates, ...]
    peers: Mapping[str, PeerResult]
    extra_bytes: int | None = None

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    @property
    def share_of_matrix_rate(self) -> float:
        return self._share(lambda rates: rates.matrix)

    @property
    def share_of_layer_rate(self) -> float:
        return self._share(lambda rates: rates.layer)

    @property
    def planning_share(self) -> float:
        shares = (1 - ahead / whole for ahead, whole in zip(self.forward_seconds, self.seconds, strict=True))
        return statistics.median(shares)

    def _share(self, of: Callable[[Rates], float]) -> float:
        rounds = zip(self.seconds, self.rates, strict=True)
        return statistics.median(self.flops.total / seconds / of(rates) for seconds, rates in rounds)


@dataclass
class _PeerTimes:
    peer: Peer
    workload: Workload
    seconds: list[float] = field(default_factory=list)
    engine_seconds: list[float] = field(default_factory=list)
    nats: float = 0.0


@dataclass(frozen=True)
class _EngineRun:
    seconds: float
    forward_seconds: float
    logprob: np.ndarray
    rows: int
    batches: int


@dataclass(frozen=True)
class Bench:
    """What the rounds of a workload need. say: where progress goes."""

    checkpoint: Checkpoint
    batch_tokens: int | None
    roofline: Roofline
    say: Callable[[str], None]

    def run(self, workload: Workload, peers: Mapping[str, tuple[Sequence[Peer], int]], rounds: int) -> WorkloadResult:
        """peers: by name, the settings to choose from and the number of pairs to time. Raises DisagreementError."""
        chosen = {
            name: _PeerTimes(self._fastest(name, settings, workload), workload.first(pairs))
            for name, (settings, pairs) in peers.items()
        }
        runs: list[_EngineRun] = []
        rates: list[Rates] = []
        for number in range(rounds):
            before = self.roofline.measure()
            runs.append(self._engine(workload))
            rates.append(_mean(before, self.roofline.measure()))
            self.say(
                f"workload {workload.name}, round {number + 1}: engine {runs[-1].seconds:.1f} s, "
                f"machine {rates[-1].matrix / 1e9:.0f} GFLOP/s"
            )
            for name, times in chosen.items():
                self._time_peer(name, times, workload, runs[-1])
        trie = unique_trie(workload.prompts)
        return WorkloadResult(
            workload=workload,
            unique_tokens=trie.num_rows,
            flops=model_flops(self.checkpoint.config, trie),
            rows=runs[0].rows,
            batches=runs[0].batches,
            seconds=tuple(run.seconds for run in runs),
            forward_seconds=tuple(run.forward_seconds for run in runs),
            rates=tuple(rates),
            peers={name: _result(times) for name, times in chosen.items()},
        )

    def fresh_engine(self) -> Engine:
        """An engine with a cold prefix cache; loading it is not timed, nor is its first touch of the weights."""
        engine = Engine(self.checkpoint, device="cpu", dtype="float32", batch_tokens=self.batch_tokens)
        engine.score([[1, 2, 3, 4]], [[[5]]])
        return engine

    def _engine(self, workload: Workload) -> _EngineRun:
        engine = self.fresh_engine()
        with forward_clock() as clock:
            started = time.perf_counter()
            scores = engine.score(workload.ids, workload.labels)
            seconds = time.perf_counter() - started
        return _EngineRun(seconds, clock.seconds, scores.logprob, scores.rows, scores.batches)

    def _time_peer(self, name: str, times: _PeerTimes, workload: Workload, run: _EngineRun) -> None:
        same_pairs = times.workload.num_pairs == workload.num_pairs
        engine_seconds = run.seconds if same_pairs else self._engine(times.workload).seconds
        logprob, seconds = _timed(times.peer, times.workload)
        times.nats = max(times.nats, check_agreement(name, logprob, run.logprob[: len(logprob)]))
        times.seconds.append(seconds)
        times.engine_seconds.append(engine_seconds)
        self.say(
            f"  {name} ({times.peer.setting}): {seconds:.1f} s on {times.workload.num_pairs} pairs, "
            f"where the engine took {engine_seconds:.1f} s"
        )

    def _fastest(self, name: str, settings: Sequence[Peer], workload: Workload) -> Peer:
        """The setting that was fastest on the first few pairs, at its better of two tries in turns."""
        per_pair = len(workload.first(1).prompts)
        few = workload.first(-(-CALIBRATION_PROMPTS // per_pair))
        tries = [[_timed(peer, few)[1] for peer in settings] for _ in range(CALIBRATION_TRIES)]
        taken = [min(seconds) for seconds in zip(*tries, strict=True)]
        for peer, seconds in zip(settings, taken, strict=True):
            self.say(f"workload {workload.name}, trying {name} with {peer.setting}: {seconds:.1f} s")
        return settings[taken.index(min(taken))]


def _timed(peer: Peer, workload: Workload) -> tuple[np.ndarray, float]:
    started = time.perf_counter()
    logprob = peer.score(workload.prompts)
    return logprob, time.perf_counter() - started


def _result(times: _PeerTimes) -> PeerResult:
    return PeerResult(
        setting=times.peer.setting,
        pairs=times.workload.num_pairs,
        seconds=tuple(times.seconds),
        engine_seconds=tuple(times.engine_seconds),
        nats=times.nats,
    )


def _mean(one: Rates, other: Rates) -> Rates:
    best = max(one, other, key=lambda rates: rates.layer)
    return Rates((one.matrix + other.matrix) / 2, (one.layer + other.layer) / 2, best.layer_call)


def record(result: WorkloadResult) -> dict[str, Any]:
    """The result as JSON values."""
    pairs, seconds = result.workload.num_pairs, result.median_seconds
    return {
        "workload": result.workload.name,
        "pairs": pairs,
        "prompts": len(result.workload.prompts),
        "prompt_tokens": result.workload.prompt_tokens,
        "unique_tokens": result.unique_tokens,
        "rows": result.rows,
        "batches": result.batches,
        "flops": {"linear": result.flops.linear, "attention": result.flops.attention, "head": result.flops.head},
        "seconds": result.seconds,
        "pairs_per_second": pairs / seconds,
        "prompts_per_second": len(result.workload.prompts) / seconds,
        "prompt_tokens_per_second": result.workload.prompt_tokens / seconds,
        "unique_tokens_per_second": result.unique_tokens / seconds,
        "matrix_flops_per_second": [rates.matrix for rates in result.rates],
        "layer_flops_per_second": [rates.layer for rates in result.rates],
        "share_of_matrix_rate": result.share_of_matrix_rate,
        "share_of_layer_rate": result.share_of_layer_rate,
        "planning_share": result.planning_share,
        "encode_seconds": result.workload.encode_seconds,
        "peak_extra_bytes": result.extra_bytes,
        "peers": {
            name: {
                "setting": peer.setting,
                "pairs": peer.pairs,
                "seconds": peer.seconds,
                "engine_seconds": peer.engine_seconds,
                "pairs_per_second": peer.pairs_per_second,
                "ratio": peer.ratio,
                "ratios": peer.ratios,
                "max_difference_nats": peer.nats,
            }
            for name, peer in result.peers.items()
        },
    }
