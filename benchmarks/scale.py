"""What several workers cost: efficiency, overhead of a shard, time to the first part; and what limits 1,000 of them.

    PYTHONPATH=.venv/ray:. python -m benchmarks.scale [--workers 1,2,4,8] [--device sleep|embedded] [--rows N]

Runs `preftree label --ray` on this machine. With `--device sleep` a judge sleeps for each unique token, so that every
worker has a device of its own and all else is what is measured; with `--device embedded` workers share the cores. A run
of `--rows` for each worker is begun for each number of workers. Then the costs of a row and of a part that the driver
has are measured, and what follows from them for a billion pairs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive
from benchmarks.pipeline import StubbedJudge, StubbedMethod, write_rows
from benchmarks.processors import Processors
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.answers.entry import Entry
from preftree.labeling.answers.part import Attempt, write_part
from preftree.labeling.data.folder import LocalFolder
from preftree.labeling.judge.encoding import Encoded
from preftree.labeling.judge.protocol import load_judge
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.runs.asking import rows_to_ask
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.labels import labels_file
from preftree.labeling.scaling.launch import label_on_ray
from preftree.labeling.scaling.shards import MOST_ROWS, shards_of
from preftree.labeling.types import RequestScores

SECONDS_PER_TOKEN = 0.0025  # a row has four: 100 rows a second
ROWS_PER_SECOND_OF_A_GPU = 60  # of a worker in the simulation
WORKERS, PAIRS = 1_000, 1_000_000_000
_MIB = 1 << 20


class SleepingJudge(StubbedJudge):
    """A device that takes so long for each unique token, and no processor."""

    def score_stream(self, windows: Iterable[Sequence[Encoded]], progress: Any = None) -> Iterator[list[RequestScores]]:
        for scores in super().score_stream(windows, progress):
            tokens = 2 * len(scores)
            time.sleep(SECONDS_PER_TOKEN * tokens)
            self.usage.unique_tokens += tokens
            self.usage.seconds += SECONDS_PER_TOKEN * tokens
            yield scores


def load_sleeping(options: Any, weights: bool = True) -> SleepingJudge:
    return SleepingJudge()


def open_stubbed(options: Any, recorded: Any = None) -> StubbedMethod:
    return StubbedMethod(load_template("general"))


def run_of(workers: int, rows: int, device: str, place: Path) -> dict[str, float]:
    """A run from its command to its labels."""
    source, out = place / f"{workers}.parquet", place / f"{workers} workers"
    write_rows(source, workers * rows)
    options = LabelOptions(input=str(source), out=str(out), quiet=True, ray="auto", workers=workers, dtype="float32")
    started = time.time()
    with Processors() as processors:
        if device == "sleep":
            summary = label_on_ray(options, load_sleeping, open_stubbed)
        else:
            summary = label_on_ray(options, load_judge)
    seconds = time.time() - started
    answers = Answers.open(out / ANSWERS)
    attempts = answers.attempts()
    end = max(one.committed for one in attempts)
    held = sum(end - one.started for one in attempts)  # from when a worker has its model until nobody judges any more
    shards = int(dict(summary.events)["workers"].split()[0])
    taken = processors.between(max(one.started for one in attempts), end)
    others = taken.pop("others")
    return {
        "workers": workers,
        "rows": summary.ok,
        "seconds": seconds,
        "worker_seconds": held,
        "device_seconds": summary.seconds,
        "efficiency": summary.seconds / held,
        "overhead_ms_per_shard": 1e3 * (held - summary.seconds) / shards,
        "shards": shards,
        **{f"{kind}_ms_per_shard": 1e3 * seconds / shards for kind, seconds in taken.items()},
        "share_of_others": others,
        "seconds_to_first_part": min(one.committed for part in answers.parts for one in part.attempts) - started,
    }


def driver_costs(source: Path, out: Path, rows: int, parts: int) -> dict[str, float]:
    """What a row and a part cost the driver: it reads rows and cuts shards, opens parts, makes labels.

    In seconds of the processor, as one thread does all of it, and others may be busy.
    """
    import pyarrow.parquet  # noqa: F401  (not counted)

    clock = time.process_time()
    job = _job(source, out)
    looked, clock = time.process_time() - clock, time.process_time()
    for _ in shards_of(rows_to_ask(job, Answers()), rows, 8):
        pass
    cut, clock = time.process_time() - clock, time.process_time()
    answers = Answers.open(out / ANSWERS)
    opened, clock = time.process_time() - clock, time.process_time()
    labels_file(LocalFolder(out), job, answers)
    return {
        "rows": rows,
        "parts": parts,
        "look_rows_per_second": rows / looked,
        "cut_rows_per_second": rows / cut,
        "open_ms_per_part": 1e3 * opened / parts,
        "labels_rows_per_second": rows / (time.process_time() - clock),
    }


def _job(source: Path, out: Path) -> Job:
    options = LabelOptions(input=str(source), out=str(out), quiet=True)
    job = Job.of(options, open_stubbed(options))
    assert job.dataset.info.rows
    return job


def _write_parts(source: Path, out: Path, parts: int) -> None:
    """The answers of all rows, as workers would have written them."""
    job, folder = _job(source, out), LocalFolder(out)
    folder.make()
    folder.child(ANSWERS).make()
    [scores] = StubbedJudge().score_stream([[Encoded([1, 2], [[3], [4]])] * 2])
    items, rows = job.items(), len(job.rows)
    for part in range(parts):
        numbers = range(rows * part // parts, rows * (part + 1) // parts)
        mine = [
            Entry(number, item.id, None, scores, job.digest(item)) for number, item in zip(numbers, items, strict=False)
        ]
        write_part(folder.child(ANSWERS), part + 1, "0", mine, [Attempt(f"worker {part % 8}", 0.0, 1.0, len(mine), {})])


def simulated(costs: dict[str, float]) -> dict[str, float]:
    """A billion pairs on 1,000 workers: the hours of each stage. Workers judge while the driver reads."""
    wanted = WORKERS * ROWS_PER_SECOND_OF_A_GPU
    parts = PAIRS / MOST_ROWS
    return {
        "look_hours": PAIRS / costs["look_rows_per_second"] / 3600,
        "judging_hours": PAIRS / wanted / 3600,
        "driver_hours": PAIRS / costs["cut_rows_per_second"] / 3600,
        "workers_that_one_driver_feeds": costs["cut_rows_per_second"] / ROWS_PER_SECOND_OF_A_GPU,
        "parts": parts,
        "open_hours": parts * costs["open_ms_per_part"] / 1e3 / 3600,
        "labels_hours": PAIRS / costs["labels_rows_per_second"] / 3600,
        "disk_gib_of_hashes_of_ids": PAIRS * 8 / 2**30,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4,8", help="numbers of workers (default: 1,2,4,8)")
    parser.add_argument("--device", choices=("sleep", "embedded"), default="sleep")
    parser.add_argument("--rows", type=positive, default=1_500, help="of each worker")
    parser.add_argument("--driver-rows", type=int, default=200_000, help="of the driver's costs; 0: no simulation")
    parser.add_argument("--parts", type=positive, default=40)
    args = parser.parse_args()
    found: dict[str, Any] = {"runs": []}
    with tempfile.TemporaryDirectory() as temporary:
        for workers in map(int, args.workers.split(",")) if args.workers else ():
            found["runs"].append(_measured(workers, args.rows, args.device, Path(temporary)))
        if args.driver_rows:
            source, out = Path(temporary, "driver.parquet"), Path(temporary, "driver")
            write_rows(source, args.driver_rows)
            _write_parts(source, out, args.parts)
            found["driver"] = driver_costs(source, out, args.driver_rows, args.parts)
            print("driver: " + _text(found["driver"]))
            found["simulated"] = simulated(found["driver"])
            print("1,000 workers, 1,000,000,000 pairs: " + _text(found["simulated"]))
    print(json.dumps(found))


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:,.1f}" for name, value in figures.items())


def _measured(workers: int, rows: int, device: str, place: Path) -> dict[str, float]:
    """`run_of` on a cluster with so many cores, whether this machine has them or not."""
    import ray

    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, object_store_memory=200 * _MIB)
    try:
        run = run_of(workers, rows, device, place)
    finally:
        ray.shutdown()
    print(
        f"{workers} workers: efficiency {run['efficiency']:.3f}, {run['overhead_ms_per_shard']:.0f} ms a shard "
        f"({run['shards']}), first part after {run['seconds_to_first_part']:.1f} s, {run['seconds']:.1f} s in all\n"
        f"    processor time of a shard: worker {run['workers_ms_per_shard']:.0f} ms, driver "
        f"{run['driver_ms_per_shard']:.0f} ms, Ray {run['ray_ms_per_shard']:.0f} ms; others took "
        f"{run['share_of_others']:.0%} of the machine",
        flush=True,
    )
    return run


if __name__ == "__main__":
    main()
