"""Labels from answers, of very many rows in many parts: rows a second, and memory, which must not grow.

    python -m benchmarks.aggregation [--rows 100000,1000000,10000000] [--parts 2000] [--place DIR]

Input and answers are synthetic and written first. Then, in a process for each number of rows, everything that
`preftree aggregate` does with rows: the look at the input, opening the parts, the labels. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arguments import positive
from benchmarks.pipeline import StubbedMethod
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.answers.digest import digests_of, joined_texts
from preftree.labeling.answers.entry import lines_schema
from preftree.labeling.answers.part import Attempt, write_lines
from preftree.labeling.data.folder import LocalFolder
from preftree.labeling.data.plain import plain_rows
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.labels import labels_file


def write_synthetic(source: Path, out: Path, rows: int, parts: int) -> None:
    """Pairs of about 600 characters and the answers to them, made as columns: there may be very many."""
    import pyarrow as pa
    from pyarrow import parquet

    folder, draw = LocalFolder(out).child(ANSWERS), np.random.default_rng(0)
    folder.make()
    writer = None
    for part in range(parts):
        numbers = np.arange(rows * part // parts, rows * (part + 1) // parts)
        table = _pairs(numbers)
        writer = writer or parquet.ParquetWriter(source, table.schema)
        writer.write_table(table)
        [batch] = table.combine_chunks().to_batches()
        samples, _ = plain_rows(batch, numbers, {name: name for name in table.schema.names}) or (None, None)
        assert samples is not None
        digests, _ = digests_of(joined_texts(samples), 5)
        first = -draw.exponential(size=2 * len(numbers))
        logprobs = np.column_stack([first, np.log1p(-np.exp(first))]).ravel()
        lines: dict[str, Any] = {
            "row": np.repeat(numbers, 2),
            "id": samples.ids.take(pa.array(np.repeat(np.arange(len(numbers)), 2))),
            "text": np.repeat(digests, 2),
            "request": np.tile([0, 1], len(numbers)),
            "answer": np.zeros(2 * len(numbers), np.int32),
            "logprobs": pa.FixedSizeListArray.from_arrays(logprobs, 2).cast(pa.list_(pa.float64())),
            "label_mass": np.full(2 * len(numbers), 0.987654321),
            "prompt_tokens": np.full(2 * len(numbers), 400),
        }
        schema = lines_schema()
        columns = [lines.get(field.name, pa.nulls(2 * len(numbers), field.type)) for field in schema]
        attempt = Attempt(f"worker {part % 8}", 0.0, 1.0, len(numbers), {})
        write_lines(folder, part + 1, "0", pa.table(columns, schema=schema), [attempt])
    if writer is not None:
        writer.close()


def _pairs(numbers: Any) -> Any:
    import pyarrow as pa
    from pyarrow import compute

    texts = pa.array(numbers).cast("string")

    def around(before: str, after: str, times: int) -> Any:
        return compute.binary_repeat(compute.binary_join_element_wise(before, texts, after, ""), times)

    return pa.table(
        {
            "id": around("row-", "", 1),
            "prompt": around("Which of the two answers to question ", " is better, and why? ", 3),
            "response_a": around("The first answer to ", ". ", 8),
            "response_b": around("The other answer to ", ". ", 7),
            "gold": pa.array(["a", "b"]).take(pa.array(numbers % 2)),
            "source": pa.repeat("web", len(numbers)),
        }
    )


def aggregated(source: Path, out: Path) -> dict[str, float]:
    """Labels of `write_synthetic`'s answers; to be called in a process of its own, whose peak memory it reports."""
    import pyarrow.parquet  # noqa: F401  (not counted)

    started, cpu = time.perf_counter(), time.process_time()
    options = LabelOptions(input=str(source), out=str(out), quiet=True)
    job = Job.of(options, StubbedMethod(load_template("general")))
    looked = time.process_time()
    answers = Answers.open(out / ANSWERS)
    assert answers.counts(job.rows)[0] == 0
    opened, clock = time.process_time(), time.perf_counter()
    ok, _ = labels_file(LocalFolder(out), job, answers)
    labelled, done = time.process_time(), time.perf_counter()
    return {
        "rows": ok,
        "parts": len(answers.parts),
        "look_cpu_us_per_row": 1e6 * (looked - cpu) / ok,
        "open_cpu_us_per_row": 1e6 * (opened - looked) / ok,
        "labels_cpu_us_per_row": 1e6 * (labelled - opened) / ok,
        "labels_rows_per_second": ok / (done - clock),
        "labels_rows_per_cpu_second": ok / (labelled - opened),
        "rows_per_second": ok / (done - started),
        "rows_per_cpu_second": ok / (labelled - cpu),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured(rows: int, parts: int, place: Path) -> dict[str, float]:
    """Of synthetic answers below `place`, which are removed."""
    source, out = place / f"{rows}.parquet", place / f"{rows} rows"
    out.mkdir()
    write_synthetic(source, out, rows, parts)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(aggregated, (source, out))
    shutil.rmtree(out)
    source.unlink()
    print("aggregation: " + _text(found), flush=True)
    return found


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:,.1f}" for name, value in figures.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="100000,1000000,10000000")
    parser.add_argument("--parts", type=positive, default=2_000)
    parser.add_argument("--place", help="where files go meanwhile (default: a temporary directory)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.place) as temporary:
        found = [measured(rows, args.parts, Path(temporary)) for rows in map(int, args.rows.split(","))]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
