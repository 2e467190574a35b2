"""The command `preftree`. Starts fast: whatever is heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

OK, FAILURE, USAGE, REJECTED_ROWS, INTERRUPTED = 0, 1, 2, 3, 130

_EPILOG = """\
exit codes: 0 done, 1 failure, 2 wrong usage, 3 done but some rows were rejected, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code. Everything a user can cause ends in one line on stderr."""
    args = build_parser().parse_args(argv)
    _be_lenient_about_encoding()
    try:
        from engine.errors import PreftreeError, PreftreeWarning
    except ImportError as error:  # a foreign package named `kernels`: the message says what to do
        return _fail(str(error))
    try:
        with warnings.catch_warnings():
            _show_in_one_line(PreftreeWarning)
            code: int = args.command(args)
        sys.stdout.flush()
    except PreftreeError as error:
        return _fail(str(error))
    except KeyboardInterrupt as interrupt:
        _fail(str(interrupt) or f"interrupted{getattr(args, 'when_interrupted', '')}")
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left(args)
    except Exception as error:
        if os.environ.get("PREFTREE_DEBUG") == "1":
            raise
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        return _fail(f"internal error: {what}; run with PREFTREE_DEBUG=1 for the traceback")
    return code


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; no option may be shortened, so that new ones break nobody's script."""
    parser = argparse.ArgumentParser(
        prog="preftree",
        description="AI preference labels for pairs of responses, offline.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_label(commands)
    _add_score(commands)
    _add_status(commands)
    _add_merge(commands)
    _add_plan(commands)
    _add_show(commands)
    _add_templates(commands)
    _add_doctor(commands)
    _add_instructions(commands)
    _add_export(commands)
    return parser


def _add_label(commands: Any) -> None:
    parser = _add_command(commands, "label", _label, "label every row of a file")
    _add_judge_options(parser)
    _add_method_options(parser)
    about = "report agreement with gold for each value of this input column, too"
    parser.add_argument("--by", dest="subset", metavar="COLUMN", help=about)
    _add_run_options(parser)


def _add_score(commands: Any) -> None:
    about = "score single responses, or pairs, under principles of your choice"
    parser = _add_command(commands, "score", _label, about)
    _add_judge_options(parser)
    add = parser.add_argument
    about = "a set of principles, by name or as a text; give it again for another set, scored beside it"
    add("--under", action="append", nargs="+", default=[], metavar="PRINCIPLE", help=about)
    about = "one more principle in every set"
    add("--add-principle", action="append", default=[], metavar="TEXT", help=about)
    about = (
        "the three against reward hacking in every set: no self-praise, an answer and not advice, no needless examples"
    )
    add("--guard", action="store_true", help=about)
    add("--principles", metavar="FILE", help="where named principles are looked up")
    add("--scale", metavar="LOW-HIGH", help="of single responses (default: 1-10)")
    _add_run_options(parser)
    parser.set_defaults(method="principled")


def _add_method_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    about = (
        "rlaif (pairs, the default), direct (a score for each response), salmon (a score for each principle), ranking"
    )
    add("--method", choices=("rlaif", "direct", "salmon", "ranking"), default="rlaif", help=about)
    add("--scale", metavar="LOW-HIGH", help="direct: the labels, in place of the template's, such as 1-5")
    add("--principles", metavar="NAME|FILE", help="salmon: a set of principles, YAML or JSON")
    about = "salmon: strongest (the default: the principle with the largest score decides), weighted, or won"
    add("--aggregate", choices=("strongest", "weighted", "won"), help=about)
    about = "ranking: ordered pairs to judge in a row (default: all)"
    add("--comparisons", type=_positive, metavar="N", help=about)
    _add_reasoning_options(parser)


def _add_reasoning_options(parser: argparse.ArgumentParser) -> None:
    about = "rlaif, direct, salmon: let the judge explain before it answers, and keep what it writes"
    parser.add_argument("--cot", action="store_true", help=about)
    add = parser.add_argument_group("with --cot").add_argument
    add("--max-rationale-tokens", type=_positive, metavar="N", help="tokens to write at most (default 512)")
    about = "rationales to draw for each prompt; what they lead to is averaged (default 1; needs --temperature)"
    add("--samples", type=_positive, metavar="N", help=about)
    about = "above 0 rationales are drawn; at 0, the default, each token is the most probable one"
    add("--temperature", type=_number, metavar="T", help=about)
    add("--top-k", type=_positive, metavar="K", help="draw among the K most probable tokens")
    add("--top-p", type=_number, metavar="P", help="draw among the most probable tokens that make up the share P")
    add("--seed", type=_natural, metavar="N", help="of what is drawn (default 0)")
    about = "keys and values to keep while rationales are written (default: what the device has to spare)"
    add("--kv-memory", type=_positive, metavar="BYTES", help=about)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="the run: what is there already and is the same is gone on with")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="begin again in the place of what DIR holds")
    about = "begin again beside it: in DIR-2, or the first of DIR-3, ... that is not there"
    again.add_argument("--force-new", action="store_true", help=about)
    add("--retry-rejects", action="store_true", help="ask again about rows that were rejected")
    add("--shard", type=_shard, metavar="I/N", help="only this part of the rows; `preftree merge` joins the parts")
    add("--quiet", action="store_true", help="no progress and no summary")
    about = "write a trace of the first forward passes to FILE, for ui.perfetto.dev; compressed if it ends in .gz"
    add("--profile", metavar="FILE", help=about)
    parser.set_defaults(when_interrupted="; nothing was written")


def _add_status(commands: Any) -> None:
    parser = _add_command(commands, "status", _status, "how far a run is, and whether a process works on it")
    parser.add_argument("dir", metavar="DIR", help="the --out of a `preftree label`")


def _add_merge(commands: Any) -> None:
    about = "join the shards of a job into the run that one machine would have made"
    parser = _add_command(commands, "merge", _merge, about)
    add = parser.add_argument
    add("shards", nargs="+", metavar="SHARD", help="the directory of a finished run with --shard; name all of them")
    add("--out", required=True, metavar="DIR", help="the joined run")
    add("--input", metavar="FILE", help="where the labelled input is on this machine")
    add("--overwrite", action="store_true", help="begin in the place of what DIR holds")
    add("--quiet", action="store_true", help="no progress and no summary")


def _add_templates(commands: Any) -> None:
    parser = _add_command(commands, "templates", _templates, "the prompt templates that come with preftree")
    parser.add_argument("name", nargs="?", metavar="NAME|FILE", help="show this one whole")


def _add_instructions(commands: Any) -> None:
    about = "training data for a principle-following reward model, from the labels of method salmon"
    parser = _add_command(commands, "instructions", _instructions, about)
    add = parser.add_argument
    add("labels", metavar="DIR", help="a directory that `preftree label --method salmon` has filled")
    add("--out", required=True, metavar="FILE", help="JSONL to write, a preference a line")
    add("--overwrite", action="store_true", help="replace FILE")
    add("--input", metavar="FILE", help="where the labelled input is now, if it was moved")
    about = "principles in a row: a number, or geometric (the default: p = 0.2, at most 8)"
    add("--num-principles", default="geometric", metavar="N", help=about)
    add("--passes", type=_positive, default=4, metavar="N", help="passes over the pairs (default 4)")
    add("--negate", type=_share, default=0.5, metavar="P", help="probability that a principle is negated (default 0.5)")
    add("--noise", type=_share, default=0.1, metavar="P", help="share of labels that are flipped (default 0.1)")
    add("--no-variance-scaling", action="store_true", help="compare scores as they are, whatever their spread")
    add("--seed", type=_natural, default=0, metavar="N", help="of everything drawn (default 0)")


def _add_export(commands: Any) -> None:
    parser = _add_command(commands, "export", _export, "labels as training data, in the shapes that trainers read")
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
    add("--min-confidence", type=_share, metavar="P", help=about)
    add("--drop-inconsistent", action="store_true", help="leave out pairs on which the two orders disagree")


def _add_plan(commands: Any) -> None:
    about = "tokens, sharing, memory and the first prompt of a job, without running the model"
    parser = _add_command(commands, "plan", _plan, about)
    _add_judge_options(parser)
    _add_method_options(parser)


def _add_show(commands: Any) -> None:
    parser = _add_command(commands, "show", _show, "one labelled pair with everything that was asked and answered")
    parser.add_argument("dir", metavar="DIR", help="a directory that `preftree label` has filled")
    parser.add_argument("id", metavar="ID", help="id of the pair; line-N where the input has no ids")
    parser.add_argument("--input", metavar="FILE", help="where the labelled input is now, if it was moved")


def _add_doctor(commands: Any) -> None:
    about = "what is installed, and whether a model is fit to label with; fails if anything is wrong"
    parser = _add_command(commands, "doctor", _doctor, about)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="embedded, a Hugging Face directory, or a .gguf")


def _add_command(commands: Any, name: str, command: Any, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=_EPILOG, allow_abbrev=False
    )
    parser.set_defaults(command=command)
    return parser


_INPUT_HELP = (
    "JSONL or CSV (plain, gzip or zstd), Parquet, Arrow, or a dataset saved to disk; each row has prompt (a string or "
    "chat messages) and response_a and response_b, or response, or responses (a list), and may have id and gold (a, b "
    "or tie), or the columns of preference data such as chosen and rejected; other columns pass through"
)


def _add_judge_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="INPUT", help=_INPUT_HELP)
    add("--model", default="embedded", help="embedded (the default), a Hugging Face directory, or a .gguf")
    templates = "one of those that `preftree templates` lists, or a file (default: what suits the method)"
    add("--template", metavar="NAME|FILE", help=templates)
    add("--preamble", default="detailed", metavar="NAME", help="base or detailed (the default)")
    add("--exemplars", type=_natural, default=0, metavar="N", help="solved examples to show (default 0)")
    rendering = parser.add_mutually_exclusive_group()
    for name, about in (("chat", "through the model's chat template"), ("plain", "as plain text")):
        rendering.add_argument(f"--{name}", dest="rendering", action="store_const", const=name, help=about)
    parser.set_defaults(rendering="auto")
    add("--limit", type=_positive, metavar="N", help="the first N rows only")
    about = "take COLUMN for a field, such as response_a=output or prompt=info.post; give it again for another"
    add("--map", dest="mapping", action="append", default=[], metavar="FIELD=COLUMN", help=about)
    about = "auto (the default: a GPU that can run the model, else the CPU), cpu, cuda, or cuda:N for one of several"
    add("--device", type=_device, default="auto", metavar="NAME", help=about)
    about = "of weights and activations (default: bfloat16 on a GPU, float32 on a CPU)"
    add("--dtype", choices=("float32", "bfloat16", "float16"), help=about)
    about = "unique tokens a forward pass may take (default: as many as run well and fit)"
    add("--batch-tokens", type=_positive, metavar="N", help=about)
    add("--no-prefix-cache", action="store_true", help="run again what all prompts share")


def _label(args: argparse.Namespace) -> int:
    from labeling.options import LabelOptions
    from labeling.report import render_summary
    from labeling.run import run_label

    names = ("out", "overwrite", "force_new", "retry_rejects", "shard", "quiet", "profile")
    own = {name: getattr(args, name) for name in names}
    options = LabelOptions(**_judge_settings(args), **own)
    summary = run_label(options)
    if not args.quiet:
        print(render_summary(summary), file=sys.stderr)
    return REJECTED_ROWS if summary.rejections.count else OK


def _status(args: argparse.Namespace) -> int:
    from pathlib import Path

    from labeling.rundir.status import status_lines

    for line in status_lines(Path(args.dir)):
        print(line)
    return OK


def _merge(args: argparse.Namespace) -> int:
    from labeling.merge import merge
    from labeling.report import render_summary

    summary = merge(args.shards, args.out, args.input, args.overwrite, args.quiet)
    if not args.quiet:
        print(render_summary(summary), file=sys.stderr)
    return REJECTED_ROWS if summary.rejections.count else OK


def _plan(args: argparse.Namespace) -> int:
    from labeling.options import JudgeOptions
    from labeling.show import plan_lines

    for line in plan_lines(JudgeOptions(**_judge_settings(args))):
        print(line)
    return OK


def _doctor(args: argparse.Namespace) -> int:
    from labeling.doctor import Doctor

    doctor = Doctor(args.model)
    for line in doctor.lines():
        print(line, flush=True)
    return FAILURE if doctor.failed else OK


def _templates(args: argparse.Namespace) -> int:
    from labeling.templating.catalogue import template_lines

    for line in template_lines(args.name):
        print(line)
    return OK


def _instructions(args: argparse.Namespace) -> int:
    from labeling.instructions.write import InstructionOptions, write_instructions

    own = ("labels", "out", "overwrite", "input", "num_principles", "passes", "negate", "noise", "seed")
    options = InstructionOptions(
        **{name: getattr(args, name) for name in own}, variance_scaling=not args.no_variance_scaling
    )
    for line in write_instructions(options):
        print(line, file=sys.stderr)
    return OK


def _export(args: argparse.Namespace) -> int:
    from labeling.export.write import ExportOptions, write_export

    names = ("run", "to", "out", "overwrite", "input", "pairs", "ties", "min_confidence", "drop_inconsistent")
    for line in write_export(ExportOptions(**{name: getattr(args, name) for name in names})):
        print(line, file=sys.stderr)
    return OK


def _show(args: argparse.Namespace) -> int:
    from labeling.show import show_lines

    for line in show_lines(args.dir, args.id, args.input):
        print(line)
    return OK


def _judge_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `JudgeOptions`."""
    same = (
        "input",
        "model",
        "template",
        "preamble",
        "exemplars",
        "rendering",
        "limit",
        "dtype",
        "batch_tokens",
    )
    settings = {name: getattr(args, name) for name in same} | {"mapping": tuple(args.mapping)}
    of_methods = ("method", "scale", "principles", "aggregate", "comparisons", "subset")
    of_rationales = ("cot", "max_rationale_tokens", "samples", "temperature", "top_k", "top_p", "seed", "kv_memory")
    settings |= {name: getattr(args, name) for name in (*of_methods, *of_rationales) if hasattr(args, name)}
    if args.method == "principled":
        settings["principle_sets"] = _principle_sets(args)
    device = None if args.device == "auto" else args.device
    return {**settings, "device": device, "prefix_cache": not args.no_prefix_cache}


def _principle_sets(args: argparse.Namespace) -> tuple[tuple[str, ...], ...]:
    from labeling.principles.sets import GUARDS

    common = (*args.add_principle, *(GUARDS if args.guard else ()))
    return tuple((*chosen, *common) for chosen in args.under or [()])


def _fail(message: str) -> int:
    _say(message)
    return FAILURE


def _say(message: str) -> None:
    from labeling.display import one_line

    print(f"preftree: {one_line(message)}", file=sys.stderr)


def _reader_left(args: argparse.Namespace) -> int:
    """`preftree plan ... | head` is no failure; labels that were not finished are."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILURE if args.command is _label else OK


def _show_in_one_line(own: type[Warning]) -> None:
    """Our own warnings as our errors look, every one; those of others as they are."""
    as_before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **named: Any) -> None:
        if issubclass(category, own):
            _say(str(message))
        else:
            as_before(message, category, *where, **named)

    warnings.simplefilter("always", own)
    warnings.showwarning = show


def _be_lenient_about_encoding() -> None:
    """A terminal that lacks a character gets its escape instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class _Version(argparse.Action):
    """Looks the version up only when asked: the look-up is slower than all the rest of the start."""

    def __call__(self, *_: Any) -> None:
        from importlib import metadata

        try:
            print(f"preftree {metadata.version('preftree')}")
        except metadata.PackageNotFoundError:
            print("preftree (not installed)")
        sys.exit(OK)


def _positive(text: str) -> int:
    number = _natural(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}")
    return share


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be auto, cpu, cuda or cuda:N, not {text!r}")
    return text


def _shard(text: str) -> str:
    from engine.errors import InputError
    from labeling.rundir.share import parsed

    try:
        parsed(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 0, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
