"""The engine end to end on token ids: rates, share of the matrix rate, memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.flops import ModelFlops, model_flops, unique_trie
from benchmarks.gpu import ceilings
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Session
from benchmarks.gpu.sizes import LLAMA, QWEN
from benchmarks.gpu.targets import Measured
from benchmarks.gpu.texts import OPTION_WORKLOADS, prompts_a_pair, workload
from benchmarks.workloads import Workload
from preftree.engine.engine import Engine
from preftree.engine.planning.trie import as_token_ids, common_prefix, unique_tokens

ROUNDS = 3
FIRST_PAIRS = 4
# As in `preftree.labeling.pipeline`, whose dependencies a GPU machine may lack.
FIRST_WINDOW = 1 / 8
# Workload and key of its target.
PROMPTS_TARGETS = {name: f"prompts {name.removeprefix('options ')}" for name in OPTION_WORKLOADS}
Call = tuple[list[list[int]], list[list[list[int]]]]


@dataclass(frozen=True)
class Run:
    """A workload timed. calls: of the stream. seconds: of each round. at_once: seconds of a single call.

    matrix_rates: FLOP/s before and after. matrix_rate: the highest of the whole call. peak_bytes: above the models on
    the device.
    """

    job: Workload
    calls: int
    seconds: tuple[float, ...]
    at_once: float
    matrix_rates: tuple[float, float]
    matrix_rate: float
    peak_bytes: int
    unique_tokens: int
    flops: ModelFlops

    @property
    def taken(self) -> float:
        return statistics.median(self.seconds)

    @property
    def prompts_per_second(self) -> float:
        return len(self.job.prompts) / self.taken

    @property
    def flops_per_second(self) -> float:
        return self.flops.total / self.taken

    @property
    def share_of_matrix_rate(self) -> float:
        return self.flops_per_second / self.matrix_rate


def run(session: Session, shape: str, name: str) -> Section:
    """Rates of a stream of calls, as a labelling run makes them, and of a single call."""
    found, models = _timed(session, shape, name), session.models
    on = f"{shape}, workload {name}"
    table = Table(f"{on}, {session.device.dtype_name}", ["", "value"])
    for row in _rows(found):
        table.add(*row)
    weights = f"{models.weight_bytes / 1e9:.2f} GB, made in {models.load_seconds:.1f} s"
    table.add("peak above the weights", f"{found.peak_bytes / 1e9:.2f} GB; weights {weights}")
    table.add("rows a batch", f"{models.engine(shape).batch_tokens:,}")
    section = Section([table], data=_data(found))
    share = found.share_of_matrix_rate
    if shape == LLAMA:
        section.measured.append(Measured("matrix", on, share, share))
    if shape == QWEN and name in OPTION_WORKLOADS:
        section.measured.append(Measured(PROMPTS_TARGETS[name], on, found.prompts_per_second, share))
    return section


def _timed(session: Session, shape: str, name: str) -> Run:
    engine, device = session.models.engine(shape), session.device
    job = sized(session, shape, name)
    calls = calls_of(job, engine.batch_tokens)
    at_once = device.wall(partial(engine.score, job.ids, job.labels))
    before = ceilings.matrix_rate(session)
    device.release()
    device.reset_peak()
    seconds = tuple(device.wall(partial(stream, engine, calls)) for _ in range(ROUNDS))
    peak = device.peak_bytes() - session.models.resident_bytes
    rates = (before, ceilings.matrix_rate(session))
    trie = unique_trie(job.prompts)
    flops = model_flops(session.sizes.shapes[shape], trie)
    highest = np.nanmax([session.ceilings.matrix, *rates])
    return Run(job, len(calls), seconds, at_once, rates, float(highest), peak, trie.num_rows, flops)


def _rows(found: Run) -> Iterator[tuple[str, str]]:
    job, taken, flops = found.job, found.taken, found.flops
    yield "pairs, prompts", f"{job.num_pairs:,}, {len(job.prompts):,}"
    yield "tokens", f"{job.prompt_tokens:,} in prompts, {found.unique_tokens:,} unique"
    yield "seconds", f"{number(taken)} ({', '.join(map(number, found.seconds))}), in {found.calls} calls"
    yield "pairs/s", number(job.num_pairs / taken, 4)
    yield "prompts/s", number(found.prompts_per_second, 4)
    yield "prompt tokens/s", number(job.prompt_tokens / taken)
    yield "unique tokens/s", number(found.unique_tokens / taken)
    share = percent(found.share_of_matrix_rate)
    yield "model rate", f"{number(found.flops_per_second / 1e12)} TFLOP/s, {share} of the matrix rate"
    yield "matrix rate before, after", ", ".join(f"{number(rate / 1e12)} TFLOP/s" for rate in found.matrix_rates)
    yield "prompts/s at the matrix rate", number(found.prompts_per_second / found.share_of_matrix_rate, 4)
    yield "model FLOPs", f"linear {flops.linear:.3g}, attention {flops.attention:.3g}, head {flops.head:.3g}"
    yield "all in one call", f"{number(found.at_once)} s, {number(job.num_pairs / found.at_once)} pairs/s"


def _data(found: Run) -> dict[str, object]:
    job, taken = found.job, found.taken
    return {
        "pairs": job.num_pairs,
        "prompts": len(job.prompts),
        "prompt_tokens": job.prompt_tokens,
        "unique_tokens": found.unique_tokens,
        "seconds": list(found.seconds),
        "seconds_in_one_call": found.at_once,
        "pairs_per_second": job.num_pairs / taken,
        "prompts_per_second": found.prompts_per_second,
        "prompt_tokens_per_second": job.prompt_tokens / taken,
        "unique_tokens_per_second": found.unique_tokens / taken,
        "matrix_flops_per_second": list(found.matrix_rates),
        "share_of_matrix_rate": found.share_of_matrix_rate,
        "peak_bytes_above_weights": found.peak_bytes,
    }


def stream(engine: Engine, calls: Sequence[Call]) -> list[np.ndarray]:
    """Log-probabilities of every call, planned as the engine likes to."""
    return [scores.logprob for scores in engine.score_stream(calls)]


def calls_of(job: Workload, budget: int) -> list[Call]:
    """The workload as a labelling run hands it over: windows of pairs, each about one batch of `budget` rows.

    The first is smaller, and each is twice the one before until they are whole.
    """
    whole = [as_token_ids(ids) for ids in (min(job.ids), max(job.ids))]
    shared = common_prefix(*whole)  # with the prefix cache

    def windows() -> Iterator[Call]:
        ids: list[list[int]] = []
        labels: list[list[list[int]]] = []
        rows, room = 0, budget * FIRST_WINDOW
        a_pair = len(job.prompts) // job.num_pairs
        for first in range(0, len(job.prompts), a_pair):
            members = job.prompts[first : first + a_pair]
            added = unique_tokens([as_token_ids(prompt.ids) for prompt in members]) - shared
            if ids and rows + added + shared > room:
                yield ids, labels
                ids, labels, rows, room = [], [], 0, min(2 * room, budget)
            ids += [prompt.ids for prompt in members]
            labels += [prompt.labels for prompt in members]
            rows += added
        yield ids, labels

    return list(windows())


def sized(session: Session, shape: str, name: str, share: float = 1.0) -> Workload:
    """As many pairs as keep the engine busy for `share` of the usual time. The engine is warm afterwards."""
    sizes, key = session.sizes, (shape, name)
    vocab = sizes.shapes[shape].vocab_size

    def of(pairs: float) -> Workload:
        most = sizes.most_pairs * 22 // prompts_a_pair(name)
        return workload(name, max(2, min(most, round(pairs))), vocab, sizes.text_divisor)

    if key not in session.counts:
        engine, pairs = session.models.engine(shape), FIRST_PAIRS
        while True:
            job = of(pairs)
            # Twice: a first call may compile what this size asks for.
            seconds = min(session.device.wall(partial(engine.score, job.ids, job.labels)) for _ in range(2))
            if seconds > sizes.run_seconds / 6 or job.num_pairs < pairs:
                break
            pairs *= 4
        session.counts[key] = max(2, round(job.num_pairs * sizes.run_seconds / seconds))
    return of(session.counts[key] * share)
