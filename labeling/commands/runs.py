"""Commands on runs that were labelled: `status`, `merge`, `show`, `export`, `instructions`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from preftree.labeling.commands.arguments import OK, add_command, natural, positive, reported, share


def add_status(commands: Any) -> None:
    parser = add_command(commands, "status", _status, "how far a run is, and whether a process works on it")
    parser.add_argument("dir", metavar="DIR", help="the --out of a `preftree label`")


def _status(args: argparse.Namespace) -> int:
    from pathlib import Path

    from preftree.labeling.runs.status import status_lines

    for line in status_lines(Path(args.dir)):
        print(line)
    return OK


def add_merge(commands: Any) -> None:
    about = "join the shards of a job into the run that one machine would have made"
    parser = add_command(commands, "merge", _merge, about)
    add = parser.add_argument
    add("shards", nargs="+", metavar="SHARD", help="the directory of a finished run with --shard; name all of them")
    add("--out", required=True, metavar="DIR", help="the joined run")
    add("--input", metavar="FILE", help="where the labelled input is on this machine")
    add("--overwrite", action="store_true", help="replace what DIR holds")
    add("--quiet", action="store_true", help="no progress and no summary")


def _merge(args: argparse.Namespace) -> int:
    from preftree.labeling.runs.shards import merge

    return reported(merge(args.shards, args.out, args.input, args.overwrite, args.quiet), args.quiet)


def add_show(commands: Any) -> None:
    parser = add_command(commands, "show", _show, "one labelled pair with everything that was asked and answered")
    parser.add_argument("dir", metavar="DIR", help="a directory that `preftree label` has filled")
    parser.add_argument("id", metavar="ID", help="id of the pair; line-N where the input has no ids")
    parser.add_argument("--input", metavar="FILE", help="where the labelled input is now, if it was moved")


def _show(args: argparse.Namespace) -> int:
    from preftree.labeling.runs.show import show_lines

    for line in show_lines(args.dir, args.id, args.input):
        print(line)
    return OK


def add_export(commands: Any) -> None:
    parser = add_command(commands, "export", _export, "labels as training data, in the shapes that trainers read")
    add = parser.add_argument
    add("run", metavar="RUN", help="a directory that `preftree label` has filled")
    names = ("trl-reward", "trl-dpo", "kto", "openrlhf", "ultrafeedback", "soft", "annotated-pairs")
    add("--to", required=True, choices=names, help="the format, see labeling/export/formats.py")
    add("--out", required=True, metavar="FILE", help=".jsonl or .parquet; .json for annotated-pairs")
    add("--overwrite", action="store_true", help="replace FILE")
    add("--input", metavar="FILE", help="where the labelled input is now, if it was moved")
    about = "of a ranking: best-worst (the default), or all that were compared"
    add("--pairs", choices=("best-worst", "all"), default="best-worst", help=about)
    about = "default: keep in soft and annotated-pairs; the other formats cannot hold them"
    add("--ties", choices=("drop", "keep"), help=about)
    about = "leave out verdicts of a lower probability, from 0.5 to 1"
    add("--min-confidence", type=share, metavar="P", help=about)
    add("--drop-inconsistent", action="store_true", help="leave out pairs on which the two orders disagree")


def _export(args: argparse.Namespace) -> int:
    from preftree.labeling.export.write import ExportOptions, write_export

    names = ("run", "to", "out", "overwrite", "input", "pairs", "ties", "min_confidence", "drop_inconsistent")
    for line in write_export(ExportOptions(**{name: getattr(args, name) for name in names})):
        print(line, file=sys.stderr)
    return OK


def add_instructions(commands: Any) -> None:
    about = "training data for a principle-following reward model, from the labels of method salmon"
    parser = add_command(commands, "instructions", _instructions, about)
    add = parser.add_argument
    add("labels", metavar="DIR", help="a directory that `preftree label --method salmon` has filled")
    add("--out", required=True, metavar="FILE", help="JSONL to write, a preference a line")
    add("--overwrite", action="store_true", help="replace FILE")
    add("--input", metavar="FILE", help="where the labelled input is now, if it was moved")
    about = "principles in a row: a number, or geometric (the default: p = 0.2, at most 8)"
    add("--num-principles", default="geometric", metavar="N", help=about)
    add("--passes", type=positive, default=4, metavar="N", help="passes over the pairs (default 4)")
    add("--negate", type=share, default=0.5, metavar="P", help="probability that a principle is negated (default 0.5)")
    add("--noise", type=share, default=0.1, metavar="P", help="share of labels that are flipped (default 0.1)")
    add("--no-variance-scaling", action="store_true", help="compare scores as they are, whatever their spread")
    add("--seed", type=natural, default=0, metavar="N", help="random seed (default 0)")


def _instructions(args: argparse.Namespace) -> int:
    from preftree.labeling.export.instructions import InstructionOptions, write_instructions

    own = ("labels", "out", "overwrite", "input", "num_principles", "passes", "negate", "noise", "seed")
    options = InstructionOptions(
        **{name: getattr(args, name) for name in own}, variance_scaling=not args.no_variance_scaling
    )
    for line in write_instructions(options):
        print(line, file=sys.stderr)
    return OK
