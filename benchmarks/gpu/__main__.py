"""The command line.

    python -m benchmarks.gpu --out DIR [--minutes 8]

The report is rewritten after every step; stopping it loses the step at hand.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.report import Report, first_line
from benchmarks.gpu.supervisor import NO_DEVICE, supervise

# What a run leaves in its directory. Earlier ones go.
FILES = ("gpu.md", "gpu.json", "errors.txt", "tests.txt", "trace.json.gz")
# Left for writing the report and for the process to end.
RESERVE_SECONDS = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Supervisor, or worker with the internal option --worker."""
    started = time.time()
    args = _parser().parse_args(argv)
    if args.worker is not None:
        return run_worker(args)
    deadline, out = started + 60 * args.minutes, args.out.resolve()
    asked = shlex.join(sys.argv[1:] if argv is None else argv)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (out / name).unlink(missing_ok=True)
        Report(out, args.rehearse, {"command": f"python -m benchmarks.gpu {asked}"}).save()
    except OSError as error:
        print(f"benchmarks.gpu: cannot write {args.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    options = ["--out", str(out), "--worker", str(deadline - RESERVE_SECONDS)]
    options += ["--rehearse"] * args.rehearse + [item for text in args.only for item in ("--only", text)]
    code = supervise([sys.executable, "-m", "benchmarks.gpu", *options], out, deadline)
    if (report := Report.load(out)).steps:
        print(report.summary(), flush=True)
    return code


def run_worker(args: argparse.Namespace) -> int:
    """Take the steps that the report in `args.out` does not have yet."""
    from benchmarks.gpu import ceilings, plan
    from benchmarks.gpu.device import Device, Gpu, Rehearsal
    from benchmarks.gpu.facts import facts
    from benchmarks.gpu.models import Models
    from benchmarks.gpu.session import Session
    from benchmarks.gpu.sizes import FULL, REHEARSAL
    from benchmarks.gpu.worker import work
    from engine.errors import PreftreeError

    try:
        device: Device = Rehearsal() if args.rehearse else Gpu()
        device.ops  # noqa: B018  says what the kernels lack
    except (PreftreeError, ValueError) as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return NO_DEVICE
    sizes, report = REHEARSAL if args.rehearse else FULL, Report.load(args.out)
    try:
        report.facts = facts(device) | report.facts
    except Exception as error:  # a number without its facts is still a number
        report.facts = {"device": device.name, "facts": first_line(error)} | report.facts
    session = Session(device, sizes, report, Models(device, sizes), args.worker)
    session.ceilings = ceilings.restored(session)
    # Shares of the ceilings are in nearly every step.
    texts = [*args.only, ceilings.TITLE] if args.only else [""]
    return work(session, [step for step in plan.steps(sizes) if any(text in step.title for text in texts)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="where gpu.md, gpu.json and logs go, at most 8 files")
    add("--minutes", type=float, default=8.0, metavar="N", help="the command ends by then (default 8)")
    add("--only", action="append", default=[], metavar="TEXT", help="steps with TEXT in their title; may be repeated")
    add("--rehearse", action="store_true", help="run everything in tiny sizes on the CPU; the numbers mean nothing")
    add("--worker", type=float, metavar="DEADLINE", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
