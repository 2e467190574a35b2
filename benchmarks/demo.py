"""What the demo saved, in three lines: tokens shared, time against one prompt a call, and what its judge is worth."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.arguments import ends_in_one_line
from benchmarks.workloads import Workload
from preftree.engine.files import read_json
from preftree.labeling.judge.judge import Judge

# Some seconds of one prompt at a time, on two cores.
PAIRS = 6
EXAMPLES = Path(__file__).parent.parent / "examples" / "pairs.jsonl"


@ends_in_one_line("python -m benchmarks.demo")
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument("run", type=Path, help="the run directory of the demo")
    record = read_json(parser.parse_args(argv).run / "run.json")
    with Judge.load("embedded") as judge:
        lines = demo_lines(record, judge, workloads.load("2", EXAMPLES, PAIRS, judge))
    print(*lines, sep="\n")
    return 0


def demo_lines(record: dict[str, Any], judge: Judge, workload: Workload) -> list[str]:
    """record: the run.json of the demo. workload: pairs that are measured with `judge` here."""
    totals = record["totals"]
    prompt, unique = totals["prompt_tokens"], totals["unique_tokens"]
    together, alone = seconds(judge, workload)
    return [
        f"tokens  {prompt - unique:,} of {prompt:,} prompt tokens were shared ({(prompt - unique) / prompt:.0%})",
        f"time    {workload.num_pairs} pairs in {together:.2f} s; this engine, one prompt a call: {alone:.2f} s "
        f"({alone / together:.1f} times)",
        "judge   a toy (embedded, 135M parameters): it shows the way, not who is right",
    ]


def seconds(judge: Judge, workload: Workload) -> tuple[float, float]:
    """Of all prompts in one call, and of each in a call without prefix cache, which share nothing."""
    engine = judge.engine

    def alone() -> None:
        for ids, labels in zip(workload.ids, workload.labels, strict=True):
            engine.score([ids], [labels], prefix_cache=False)

    engine.score(workload.ids[:1], workload.labels[:1], prefix_cache=False)  # a first call makes what all calls use
    return _seconds(lambda: engine.score(workload.ids, workload.labels)), _seconds(alone)


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
