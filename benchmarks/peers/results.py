"""What the rounds of a workload say, as numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.flops import model_flops, unique_trie
from benchmarks.peers.accuracy import Accuracy, accuracy
from benchmarks.peers.contestants import BFLOAT16, FLOAT32
from benchmarks.peers.race import Entry, Turn
from benchmarks.workloads import Workload
from preftree.engine.config.model_config import ModelConfig


@dataclass(frozen=True)
class Result:
    """One contestant on one workload, medians over the rounds.

    Attributes:
        name: of the contestant.
        setting: the fastest of those in `tried`.
        tried: by setting, seconds on a few pairs.
        pairs: that it was timed on.
        prompts_per_second: of these.
        seconds: of each round.
        ratio: its seconds by those of preftree in bfloat16 on the same prompts, median of the rounds' ratios.
        own_ratio: the same with preftree in its own type; None where that does not run.
        rate: type of its matrix products.
        matrix_rates: of that type, FLOP/s, of each round, the mean of before and after.
        share_of_matrix_rate: model FLOPs per second, of which nothing is shared or padded twice, by that rate.
        share_of_layer_rate: by that of the model's widest layer.
        peak_bytes: largest resident set size of its process.
        accuracy: against preftree in float32; None from a contestant that returns no log-probabilities of labels.
    """

    name: str
    setting: str
    tried: dict[str, float]
    pairs: int
    prompts_per_second: float
    seconds: list[float]
    ratio: float
    own_ratio: float | None
    rate: str
    matrix_rates: list[float]
    share_of_matrix_rate: float
    share_of_layer_rate: float
    peak_bytes: int | None
    accuracy: Accuracy | None


def results(entries: Sequence[Entry], config: ModelConfig) -> list[Result]:
    """Of all contestants, preftree in float32 and bfloat16 among them."""
    by_contestant = {entry.contestant: entry for entry in entries}
    return [_result(entry, by_contestant[FLOAT32], by_contestant[BFLOAT16], entries, config) for entry in entries]


def _result(entry: Entry, reference: Entry, baseline: Entry, entries: Sequence[Entry], config: ModelConfig) -> Result:
    prompts = entry.workload.prompts
    seconds = [turn.answer.seconds for turn in entry.turns]
    flops = model_flops(config, unique_trie(prompts)).total
    matrix = [statistics.mean(rates.matrix for rates in turn.rates) for turn in entry.turns]
    layer = [statistics.mean(rates.layer for rates in turn.rates) for turn in entry.turns]
    peaks = [turn.answer.peak_bytes for turn in entry.turns if turn.answer.peak_bytes is not None]
    ratio = _ratio(entry, baseline)
    assert ratio is not None
    own = next(
        (one for one in entries if one.contestant.is_ours and one.contestant.dtype == entry.contestant.dtype), None
    )
    return Result(
        name=entry.contestant.name,
        setting=entry.setting.name,
        tried=entry.tried,
        pairs=entry.workload.num_pairs,
        prompts_per_second=len(prompts) / statistics.median(seconds),
        seconds=seconds,
        ratio=ratio,
        own_ratio=None if own is None else _ratio(entry, own),
        rate=entry.contestant.rate,
        matrix_rates=matrix,
        share_of_matrix_rate=_median_share(flops, seconds, matrix),
        share_of_layer_rate=_median_share(flops, seconds, layer),
        peak_bytes=max(peaks, default=None),
        accuracy=_accuracy(entry.turns[-1], reference.turns[-1], entry.workload),
    )


def _ratio(entry: Entry, own: Entry) -> float | None:
    """Median over the rounds of how many times as long `entry` took as preftree did in `own`'s type."""
    dtype = own.contestant.dtype
    ours = [turn.ours.get(dtype) for turn in entry.turns]
    if entry.contestant.is_ours:
        ours = [turn.answer.seconds for turn in own.turns]
    pairs = [(turn.answer.seconds, seconds) for turn, seconds in zip(entry.turns, ours, strict=True)]
    return statistics.median(theirs / seconds for theirs, seconds in pairs if seconds) if all(ours) else None


def _median_share(flops: int, seconds: Sequence[float], rates: Sequence[float]) -> float:
    return statistics.median(flops / taken / rate for taken, rate in zip(seconds, rates, strict=True))


def _accuracy(turn: Turn, reference: Turn, workload: Workload) -> Accuracy | None:
    if turn.answer.logprobs is None:
        return None
    assert reference.answer.logprobs is not None
    return accuracy(turn.answer.logprobs, reference.answer.logprobs[: len(workload.prompts)], workload.prompts)


def record(workload: Workload, found: Sequence[Result]) -> dict[str, Any]:
    """One workload as JSON values."""
    return {
        "workload": workload.name,
        "pairs": workload.num_pairs,
        "prompts": len(workload.prompts),
        "prompt_tokens": workload.prompt_tokens,
        "unique_tokens": unique_trie(workload.prompts).num_rows,
        "results": [asdict(result) for result in found],
    }
