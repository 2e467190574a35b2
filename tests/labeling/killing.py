"""Runs that are killed, in a process that forks them: `python -m tests.labeling.killing DIR MOMENTS SEED [workers]`.

Prints one JSON object: how often a run was killed and in how many attempts it asked about rows that were committed
before, or wrote other bytes than an uninterrupted run. workers: three of them judge each run, and one is killed at a
time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from preftree.labeling.answers import writer
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import run_worker
from tests.labeling.fakes import FakeScorer, open_fake_method, row, write_rows

ROWS = 120
# So that a run of a third of a second has many parts, which are joined now and then.
writer._SECONDS = 0.005
writer._SMALL_PARTS = 8


class LoggingScorer(FakeScorer):
    """Takes two milliseconds a window, and says what it was asked."""

    def __init__(self, log: Path) -> None:
        super().__init__(window_tokens=200)
        self._log = log.open("a")

    def score(self, encoded: Any) -> Any:
        time.sleep(0.002)
        for entry in encoded:
            print(bytes(entry.ids).decode(), file=self._log, flush=True)
        return super().score(encoded)


def label(source: Path, out: Path, worker: str | None) -> None:
    import pyarrow as pa

    pa.set_cpu_count(1)
    options = LabelOptions(input=str(source), out=str(out), quiet=True, worker=worker)

    def load(*_: object, weights: bool = True) -> Any:
        return LoggingScorer(out.with_suffix(".log"))

    run_worker(options, load, open_fake_method)


def begun(source: Path, out: Path, worker: str | None = None) -> int:
    """The id of a process that labels."""
    child = os.fork()
    if child == 0:
        try:
            label(source, out, worker)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def ended(child: int) -> bool:
    """Whether it came to its end before it was killed."""
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the run failed"
    return os.WIFEXITED(status)


def forked(source: Path, out: Path, seconds: float | None) -> bool:
    """Whether the run came to its end before it was killed, `seconds` after its start."""
    child = begun(source, out)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return ended(child)


def committed(out: Path) -> set[str]:
    """Ids of the rows that have answers."""
    answers = Answers.open(out / ANSWERS)
    assert not answers.damaged, "a kill leaves whole parts only"
    return {entry.id for entry in answers.entries() if entry.id}


def asked(out: Path) -> list[str]:
    """Ids in the order in which they were asked about; every prompt has one in it."""
    log = out.with_suffix(".log")
    return [line.split("#")[1] for line in log.read_text().splitlines()] if log.exists() else []


def prepared(directory: Path, padding: int = 0) -> tuple[Path, bytes, float]:
    """An input, its labels, and the seconds that they take. padding: characters that are more than is read ahead."""
    note = "x" * padding
    rows = [row(id=f"id {n}", prompt=f"#id {n}#", response_a=f"this {n}", note=note + "x" * n) for n in range(ROWS)]
    rows[7]["prompt"] = "TOO LONG"
    rows[8]["prompt"] = "NOT FINITE #id 8#"
    source = write_rows(directory / "in.jsonl", rows)
    started = time.monotonic()
    assert forked(source, directory / "whole", None)
    length = time.monotonic() - started
    return source, (directory / "whole" / "labels.parquet").read_bytes(), length


def main(directory: Path, moments: int, seed: int) -> dict[str, int]:
    source, whole, length = prepared(directory)
    draw = random.Random(seed)
    found = {"killed": 0, "asked_again": 0, "other_bytes": 0, "runs": 0}
    out = directory / "run 0"
    while found["killed"] < moments:
        before, known = len(asked(out)), committed(out)
        done = forked(source, out, draw.uniform(0, 1.1 * length))
        found["killed"] += not done
        found["asked_again"] += bool(known & set(asked(out)[before:]))
        if done:
            found["runs"] += 1
            found["other_bytes"] += (out / "labels.parquet").read_bytes() != whole
            out = directory / f"run {found['runs']}"
    if out.exists():
        assert forked(source, out, None)
        found["runs"] += 1
        found["other_bytes"] += (out / "labels.parquet").read_bytes() != whole
    return found


def of_workers(directory: Path, moments: int, seed: int) -> dict[str, int]:
    source, whole, length = prepared(directory)
    draw = random.Random(seed)
    found = {"killed": 0, "asked_again": 0, "other_bytes": 0, "runs": 0}
    while found["killed"] < moments:
        out = directory / f"run {found['runs']}"
        while not (out / "labels.parquet").exists():
            before, known = len(asked(out)), committed(out)
            children = [begun(source, out, f"{index}/3") for index in (1, 2, 3)]
            time.sleep(draw.uniform(0, 0.6 * length))
            os.kill(draw.choice(children), signal.SIGKILL)
            found["killed"] += sum([not ended(child) for child in children])
            found["asked_again"] += bool(known & set(asked(out)[before:]))
        assert ended(begun(source, out))
        found["runs"] += 1
        found["other_bytes"] += (out / "labels.parquet").read_bytes() != whole
    return found


if __name__ == "__main__":
    work = of_workers if sys.argv[4:] == ["workers"] else main
    print(json.dumps(work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
