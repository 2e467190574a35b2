"""preftree beside transformers, vLLM and OpenVINO GenAI on this machine's CPU, with the same token ids.

    make peers                                    # vLLM and OpenVINO, each in an environment of its own
    python -m benchmarks.peers --data FILE

Every contestant runs in a process of its own, in its fastest setting of several, and all take turns. Prints the
machine with the rates of its matrix products, a table for each workload, and one line of JSON last. Progress goes to
stderr. A peer that is not installed, or fails, is named and left out.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.arguments import check_out, ends_in_one_line, hugging_face_directory, names, positive, say, write_json
from benchmarks.machine import Machine
from benchmarks.peers import report
from benchmarks.peers.contestants import CONTESTANTS, FAMILIES, OURS, chosen
from benchmarks.peers.field import Field, job_of
from benchmarks.peers.race import Race
from benchmarks.peers.results import record, results
from benchmarks.workloads import WORKLOADS, Workload, load
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import OutputError
from preftree.labeling.judge.judge import Judge

PEERS = tuple(family for family in FAMILIES if family != OURS)


@ends_in_one_line("benchmarks.peers")
def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    run(args)
    return 0


def run(args: argparse.Namespace) -> None:
    """The command, once its arguments are parsed. Raises PreftreeError."""
    check_out(args.out)
    contestants = chosen(args.peers)
    model = args.model if args.model == "embedded" else str(Path(args.model).resolve())
    judge = Judge.load(model, weights=False)
    workloads = [load(name, args.data, args.pairs, judge) for name in args.workloads]
    directory = hugging_face_directory(model) if args.peers else None
    config, machine = open_checkpoint(model).config, Machine.find()
    with (
        tempfile.TemporaryDirectory(prefix="preftree-peers-") as scratch,
        _logs(args.logs) as logs,
        Field(Path(scratch), Path(logs), say) as field,
    ):
        field.start(contestants, job_of(model, directory, workloads))
        rates = {dtype: field.rates(dtype) for dtype in dict.fromkeys(one.rate for one in field.present)}
        facts = field.facts
        print(report.header(machine, rates, facts), flush=True)
        records = [_measured(args, field, workload, config) for workload in workloads]
        left_out = field.left_out
    for reason in left_out.values():
        print(f"left out: {reason}")
    whole = {
        "model": args.model,
        "data": args.data.name,
        "rounds": args.rounds,
        "machine": machine.record(),
        "rates": {dtype: asdict(rate) for dtype, rate in rates.items()},
        "peers": facts,
        "left_out": left_out,
        "workloads": records,
    }
    write_json(args.out, whole)
    print(f"\n{json.dumps(whole)}")


def _measured(args: argparse.Namespace, field: Field, workload: Workload, config: ModelConfig) -> dict[str, Any]:
    """One workload: its table is printed, its record returned."""
    found = results(Race(field, workload, args.padded_pairs, say).run(args.rounds), config)
    print(f"\n{report.table(workload, found, args.rounds)}", flush=True)
    return record(workload, found)


def _logs(directory: Path | None) -> tempfile.TemporaryDirectory[str] | nullcontext[Path]:
    if directory is None:
        return tempfile.TemporaryDirectory(prefix="preftree-peers-logs-")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {directory}: {error.strerror or error}") from None
    return nullcontext(directory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    known = (*PEERS, *(one.name for one in CONTESTANTS if not one.is_ours))
    add("--data", type=Path, required=True, metavar="FILE", help="pairs, one JSON object a line")
    add("--pairs", type=positive, default=20, metavar="N", help="the first N good pairs (default 20)")
    add("--rounds", type=positive, default=3, metavar="N", help="times that everything is measured (default 3)")
    add("--model", default="embedded", help="embedded (the default), or a Hugging Face directory")
    add("--workloads", type=names(WORKLOADS), default=WORKLOADS, metavar="2,22", help="prompts a pair")
    about = f"some of {', '.join(known)}; or none (default: all)"
    add("--peers", type=names(known), default=PEERS, metavar="NAMES", help=about)
    about = "on workload 22, time padded batches, and preftree beside them, on the first N pairs only"
    add("--padded-pairs", type=positive, metavar="N", help=about)
    add("--logs", type=Path, metavar="DIR", help="keep what the contestants print")
    add("--out", type=Path, metavar="FILE.json", help="where the JSON goes, too")
    return parser


if __name__ == "__main__":
    # Ended from outside, too, it ends its workers and removes half a gigabyte of model files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
