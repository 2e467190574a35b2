"""The benchmarks that labels may be of, by their columns."""

from __future__ import annotations

from typing import Any

from preftree.labeling.report.benchmarks.benchmark import Benchmark
from preftree.labeling.report.benchmarks.judge_bench import JudgeBench
from preftree.labeling.report.benchmarks.llmbar import LlmBar
from preftree.labeling.report.benchmarks.reward_bench import RewardBench
from preftree.labeling.report.benchmarks.reward_bench_2 import RewardBench2
from preftree.labeling.report.benchmarks.rm_bench import RmBench

_KNOWN: tuple[type[Benchmark], ...] = (RewardBench2, RmBench, JudgeBench, RewardBench, LlmBar)


def benchmarks_of(schema: Any) -> list[Benchmark]:
    """Those that labels with these columns may be of. Values tell some apart: at most one has figures in the end."""
    kinds = {field.name: field.type for field in schema if schema.get_field_index(field.name) >= 0}
    return [benchmark() for benchmark in _KNOWN if benchmark.fits(kinds)]
