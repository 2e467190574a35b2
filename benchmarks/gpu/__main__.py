"""The command line.

    python -m benchmarks.gpu --out DIR [--minutes 7] [--only GROUP] [--fa3 FILE]
    python -m benchmarks.gpu --show DIR

The report is rewritten after every step; stopping it loses the step at hand. Exit code 0: every step ran and every
target that was measured is reached; 1: a step failed; 3: a step was not finished in time; 4: a figure is below target.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.report import ERRORS_NAME, JSON_NAME, MARKDOWN_NAME, Report, first_line
from benchmarks.gpu.supervisor import TOLD, supervise

# What a run leaves in its directory. A run of everything removes earlier ones; with --only they are continued.
FILES = (MARKDOWN_NAME, JSON_NAME, ERRORS_NAME, "tests.txt", "tune.txt", "trace.json.gz")
# Left for writing the report and for the process to end.
RESERVE_SECONDS = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Supervisor, or worker with the internal option --worker."""
    started = time.time()
    args = _parser().parse_args(argv)
    if args.show is not None:
        return show(args.show)
    if args.worker is not None:
        return run_worker(args)
    out = args.out.resolve()
    asked = shlex.join(sys.argv[1:] if argv is None else argv)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _opened(out, args, {"command": f"python -m benchmarks.gpu {asked}"}).save()
    except OSError as error:
        print(f"benchmarks.gpu: cannot write {args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    deadline = started + 60 * args.minutes
    code = supervise(_worker_command(args, out, deadline), out, deadline)
    if code == TOLD or not (report := Report.load(out)).steps:
        return 1
    print(report.summary(), flush=True)
    return report.outcome.exit_code


def show(directory: Path) -> int:
    """Print the first page of the report in `directory` again."""
    try:
        report = Report.load(directory)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"benchmarks.gpu: no report in {directory}: {reason}", file=sys.stderr)
        return 1
    print(report.summary())
    return 0


def run_worker(args: argparse.Namespace) -> int:
    """Take the steps that the report in `args.out` does not have yet."""
    from benchmarks.gpu import ceilings, plan
    from benchmarks.gpu.clocks import open_clocks
    from benchmarks.gpu.device import Device, Gpu, Rehearsal
    from benchmarks.gpu.facts import facts
    from benchmarks.gpu.models import Models
    from benchmarks.gpu.session import Session
    from benchmarks.gpu.sizes import FULL, REHEARSAL
    from benchmarks.gpu.worker import work
    from preftree.engine.errors import PreftreeError

    sizes = REHEARSAL if args.rehearse else FULL
    try:
        steps = plan.chosen(plan.steps(sizes), args.only)
        device: Device = Rehearsal() if args.rehearse else Gpu()
        device.ops  # noqa: B018  says what the kernels lack
    except (PreftreeError, ValueError) as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return TOLD
    report, clocks = Report.load(args.out), open_clocks(device)
    try:
        report.facts = facts(device) | {"clocks sampled by": clocks.source} | report.facts
    except Exception as error:  # a number without its facts is still a number
        report.facts = {"device": device.name, "facts": first_line(error)} | report.facts
    session = Session(device, sizes, report, Models(device, sizes), args.worker, clocks=clocks, fa3=args.fa3)
    ceilings.restore(session)
    code = work(session, steps)
    if code == 0 and not report.is_saved:  # the disk is full: this is the last chance to see the figures
        print(report.summary(), flush=True)
        return TOLD
    return code


def _opened(out: Path, args: argparse.Namespace, facts: dict[str, str]) -> Report:
    """A new report in place of earlier files, or one that continues an earlier one where only some steps are wanted."""
    if args.only:
        try:
            earlier = Report.load(out)
        except FileNotFoundError:
            return Report(out, args.rehearse, facts)
        except ValueError as error:
            print(f"benchmarks.gpu: the earlier report in {out} is replaced: {error}", file=sys.stderr)
            return Report(out, args.rehearse, facts)
        if earlier.is_rehearsal == args.rehearse:
            return earlier.next_call(facts)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    return Report(out, args.rehearse, facts)


def _worker_command(args: argparse.Namespace, out: Path, deadline: float) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--worker", str(deadline - RESERVE_SECONDS)]
    command += ["--rehearse"] * args.rehearse + [item for text in args.only for item in ("--only", text)]
    return command + (["--fa3", str(args.fa3.resolve())] if args.fa3 else [])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__, allow_abbrev=False)
    add, places = parser.add_argument, parser.add_mutually_exclusive_group(required=True)
    places.add_argument("--out", type=Path, metavar="DIR", help="where gpu.md, gpu.json and logs go, at most 8 files")
    places.add_argument("--show", type=Path, metavar="DIR", help="print the summary of the report in DIR again")
    add("--minutes", type=float, default=7.0, metavar="N", help="the command ends by then (default 7)")
    add(
        "--only",
        action="append",
        default=[],
        metavar="GROUP",
        help="a group of steps, such as tests, decode, devices, tune, flex, budgets, or steps with this text in their "
        "title; may be repeated; an earlier report in DIR is continued",
    )
    add("--fa3", type=Path, metavar="FILE", help="a library with FlashAttention-3 (_vllm_fa3_C) to compare with")
    add("--rehearse", action="store_true", help="run everything in tiny sizes on the CPU; the numbers mean nothing")
    add("--worker", type=float, metavar="DEADLINE", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
