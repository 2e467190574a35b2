"""Rows a second through everything but the model: reading, planning, answers, writing; and memory, which must not grow.

    python -m benchmarks.pipeline [--rows 1000000] [--keep DIR]

Work on tokens is stubbed: a prompt is two token ids and its scores are made up. Everything else is what `preftree
label` runs, on a Parquet file that is written first. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from preftree.labeling.judge.encoding import Encoded
from preftree.labeling.judge.usage import ProgressCallback, Usage
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.rationales import Rationale
from preftree.labeling.runs.run import run_label
from preftree.labeling.types import Request, RequestScores, Sample, ScoreRequest

_GROUP_ROWS = 50_000
_KIB = 1024


@dataclass(frozen=True)
class StubbedMethod(Rlaif):
    """Asks with nothing but a response: making the text of a prompt is counted to the work on its tokens."""

    def requests(self, sample: Sample) -> tuple[ScoreRequest, ScoreRequest]:
        return _REQUEST, _REQUEST

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        return []


_REQUEST = ScoreRequest("", "", ("1", "2"))
_ENCODED = Encoded([1, 2], [[3], [4]])


class StubbedJudge:
    """Answers at once, out of a stock."""

    def __init__(self) -> None:
        self.usage = Usage()
        self.window_tokens = 2048
        self._answers = cycle([_answer(number) for number in range(9_973)])  # no row has the answers of the one before

    def encode(self, request: Request) -> Encoded:
        return _ENCODED

    def render(self, request: Request) -> str:
        return ""

    def score_stream(
        self, windows: Iterable[Sequence[Encoded]], progress: ProgressCallback | None = None
    ) -> Iterator[list[RequestScores]]:
        for window in windows:
            self.usage.prompt_tokens += 2 * len(window)
            yield list(islice(self._answers, len(window)))

    @contextmanager
    def traced(self, path: Path) -> Iterator[None]:
        yield

    def unique_tokens(self, encoded: Sequence[Encoded]) -> int:
        return 4

    def plan(self, encoded: Sequence[Encoded]) -> None:
        return None

    def describe(self, before: Any = None) -> dict[str, Any]:
        return {"model": "stub", "model_sha256": "0", "rendering": "plain"}


def _answer(number: int) -> RequestScores:
    logprob = -1.0 / (1 + number)
    return RequestScores.single((logprob, -1.0 - logprob), 0.987654321, 2)


def write_rows(path: Path, rows: int) -> None:
    """Pairs of about 600 characters, in row groups of 50,000."""
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    for start in range(0, rows, _GROUP_ROWS):
        numbers = range(start, min(rows, start + _GROUP_ROWS))
        table = pa.table(
            {
                "id": [f"row-{n}" for n in numbers],
                "prompt": [f"Which of the two answers to question {n} is better, and why? " * 3 for n in numbers],
                "response_a": [f"The first answer to {n}. " * 8 for n in numbers],
                "response_b": [f"The other answer to {n}. " * 7 for n in numbers],
                "gold": ["ab"[n % 2] for n in numbers],
                "source": ["web" for _ in numbers],
            }
        )
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def labelled(source: Path, out: Path) -> dict[str, float]:
    """Labels a file; to be called in a process of its own, whose peak memory it reports."""
    method = StubbedMethod(load_template("general"))
    options = LabelOptions(input=str(source), out=str(out), quiet=True)
    started, cpu = time.perf_counter(), time.process_time()
    summary = run_label(options, lambda *_, weights=True: StubbedJudge(), lambda *_: method)
    seconds = time.perf_counter() - started
    record = json.loads((out / "run.json").read_text())
    return {
        "rows": summary.ok,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "rows_per_second": summary.ok / seconds,
        "answers_share": record["totals"]["answers_seconds"] / seconds,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", metavar="DIR", help="leave input and runs there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(args.keep or temporary)
        place.mkdir(parents=True, exist_ok=True)
        results = []
        for rows in (args.rows // 10, args.rows):  # a tenth, to see what memory does
            source = place / f"{rows}.parquet"
            write_rows(source, rows)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(labelled, (source, place / f"{rows} rows"))
            results.append(found)
            print(
                f"{rows:>9,} rows: {found['rows_per_second']:,.0f} rows/s, {found['peak_mib']:,.0f} MiB at the peak, "
                f"{found['answers_share']:.1%} of the time writing answers"
            )
        print(json.dumps(results))


if __name__ == "__main__":
    main()
