"""How fast the engine labels pairs, beside transformers and beside what the machine can do.

    python -m benchmarks.labeling --data FILE

Prints the roofline, then a table for each workload, and one line of JSON last. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.machine import Machine, Roofline
from benchmarks.memory import in_own_process, scoring_peak
from benchmarks.parts import profile_parts
from benchmarks.peers import PEERS, candidates, load_transformers
from benchmarks.rounds import Bench, record
from benchmarks.workloads import WORKLOADS, Workload, load
from engine.errors import InputError, OutputError, PreftreeError
from engine.loading.checkpoint import open_checkpoint
from engine.loading.embedded import embedded_directory
from labeling.scorer import Scorer


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        run(args)
    except PreftreeError as error:
        print(f"benchmarks.labeling: {error}", file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace) -> None:
    """Everything behind the arguments. Raises PreftreeError."""
    _check_out(args.out)
    scorer = Scorer.open(args.model, weights=False)
    jobs = [load(name, args.data, args.pairs, scorer) for name in args.workloads]
    checkpoint = open_checkpoint(args.model)
    model = load_transformers(_directory(args.model)) if args.peers else None
    bench = Bench(checkpoint, args.batch_tokens, Roofline(checkpoint.config), _say)
    machine, rates = Machine.find(), bench.roofline.measure()
    print(tables.header(machine, rates), flush=True)
    results = []
    for workload in jobs:
        peers = {name: (candidates(name, model, workload), _peer_pairs(args, name, workload)) for name in args.peers}
        result = bench.run(workload, peers, args.rounds)
        if args.memory:
            peak = in_own_process(scoring_peak, args.model, workload.ids, workload.labels, args.batch_tokens)
            result = replace(result, extra_bytes=peak)
        print(f"\n{tables.table(result)}", flush=True)
        results.append(record(result))
        if args.profile:
            parts, operations = profile_parts(bench.fresh_engine(), workload)
            print(f"\n{operations}\n{tables.parts_table(workload.name, parts)}", flush=True)
            results[-1]["part_seconds"] = parts
    whole = {
        "model": args.model,
        "data": args.data.name,
        "rounds": args.rounds,
        "machine": machine.record(),
        "roofline": asdict(rates),
        "workloads": results,
    }
    _write(args.out, whole)
    print(f"\n{json.dumps(whole)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labeling", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="pairs, one JSON object a line")
    add("--pairs", type=_positive, default=20, metavar="N", help="the first N good pairs (default 20)")
    add("--rounds", type=_positive, default=3, metavar="N", help="times that everything is measured (default 3)")
    add("--model", default="embedded", help="embedded (the default), a Hugging Face directory, or a .gguf")
    add("--batch-tokens", type=_positive, metavar="N", help="unique tokens in one forward pass of the engine")
    add("--workloads", type=_names(WORKLOADS), default=WORKLOADS, metavar="2,22", help="prompts a pair")
    add("--peers", type=_names(PEERS), default=PEERS, metavar="padded,prefix", help="or none")
    about = "on workload 22, time the padded peer, and the engine beside it, on the first N pairs only"
    add("--peer-pairs", type=_positive, metavar="N", help=about)
    add("--profile", action="store_true", help="also print the engine's time by part, from one run more")
    add("--no-memory", dest="memory", action="store_false", help="leave out peak memory, which takes one run more")
    add("--out", type=Path, metavar="FILE.json", help="where the JSON goes, too")
    return parser


def _peer_pairs(args: argparse.Namespace, name: str, workload: Workload) -> int:
    few = args.peer_pairs is not None and name == "padded" and workload.name == "22"
    return min(args.peer_pairs, workload.num_pairs) if few else workload.num_pairs


def _directory(model: str) -> Path:
    if model == "embedded":
        return embedded_directory()
    if not Path(model).is_dir():
        raise InputError(f"{model}: transformers needs a Hugging Face directory; use --peers none")
    return Path(model)


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return parse


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, not {text!r}")
    return int(text)


def _check_out(path: Path | None) -> None:
    """Found wrong now, or after half an hour."""
    if path is None:
        return
    if path.exists():
        raise OutputError(f"{path} exists already; name another file")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: {path.parent} is no writable directory")


def _write(path: Path | None, whole: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
