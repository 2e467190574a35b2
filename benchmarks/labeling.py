"""How fast the engine labels pairs, beside transformers and beside what the machine can do.

    python -m benchmarks.labeling --data FILE

Prints the roofline, then a table for each workload, and one line of JSON last. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import tables
from benchmarks.arguments import check_out, ends_in_one_line, hugging_face_directory, names, positive, say, write_json
from benchmarks.machine import Machine, Roofline
from benchmarks.memory import in_own_process, scoring_peak
from benchmarks.parts import profile_parts
from benchmarks.peers.transformers import PEERS, candidates, load_transformers
from benchmarks.rounds import Bench, record
from benchmarks.workloads import WORKLOADS, Workload, load
from preftree.engine.checkpoint import open_checkpoint
from preftree.labeling.judge.judge import Judge


@ends_in_one_line("benchmarks.labeling")
def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    run(args)
    return 0


def run(args: argparse.Namespace) -> None:
    """The command, once its arguments are parsed. Raises PreftreeError."""
    check_out(args.out)
    scorer = Judge.load(args.model, weights=False)
    jobs = [load(name, args.data, args.pairs, scorer) for name in args.workloads]
    checkpoint = open_checkpoint(args.model)
    model = load_transformers(hugging_face_directory(args.model)) if args.peers else None
    bench = Bench(checkpoint, args.batch_tokens, Roofline(checkpoint.config), say)
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
    write_json(args.out, whole)
    print(f"\n{json.dumps(whole)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labeling", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="pairs, one JSON object a line")
    add("--pairs", type=positive, default=20, metavar="N", help="the first N good pairs (default 20)")
    add("--rounds", type=positive, default=3, metavar="N", help="times that everything is measured (default 3)")
    add("--model", default="embedded", help="embedded (the default), a Hugging Face directory, or a .gguf")
    add("--batch-tokens", type=positive, metavar="N", help="unique tokens in one forward pass of the engine")
    add("--workloads", type=names(WORKLOADS), default=WORKLOADS, metavar="2,22", help="prompts a pair")
    add("--peers", type=names(PEERS), default=PEERS, metavar="padded,prefix", help="or none")
    about = "on workload 22, time the padded peer, and the engine beside it, on the first N pairs only"
    add("--peer-pairs", type=positive, metavar="N", help=about)
    add("--profile", action="store_true", help="also print the engine's time by part, from one run more")
    add("--no-memory", dest="memory", action="store_false", help="leave out peak memory, which takes one run more")
    add("--out", type=Path, metavar="FILE.json", help="where the JSON goes, too")
    return parser


def _peer_pairs(args: argparse.Namespace, name: str, workload: Workload) -> int:
    few = args.peer_pairs is not None and name == "padded" and workload.name == "22"
    return min(args.peer_pairs, workload.num_pairs) if few else workload.num_pairs


if __name__ == "__main__":
    sys.exit(main())
