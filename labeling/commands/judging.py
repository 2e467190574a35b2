"""Commands that ask a judge, or say what they would ask: `label`, `score`, `plan`."""

from __future__ import annotations

import argparse
from typing import Any

from preftree.labeling.commands.arguments import OK, add_command, device, natural, number, positive, reported, shard
from preftree.labeling.methods.registry import METHODS

_INPUT_HELP = (
    "files, patterns, folders of files, URLs (s3://, hf://, ...) or - for standard input: JSONL or CSV (plain, "
    "gzip or zstd), Parquet, Arrow, or a dataset saved to disk; each row has prompt (a string or "
    "chat messages) and response_a and response_b, or response, or responses (a list), and may have id and gold (a, b "
    "or tie), or the columns of preference data such as chosen and rejected; other columns pass through"
)


def add_label(commands: Any) -> None:
    parser = add_command(commands, "label", _label, "label every row of a file")
    _add_judge_options(parser)
    _add_method_options(parser)
    about = "report agreement with gold for each value of this input column, too"
    parser.add_argument("--by", dest="subset", metavar="COLUMN", help=about)
    _add_run_options(parser)


def add_score(commands: Any) -> None:
    about = "score single responses, or pairs, under principles of your choice"
    parser = add_command(commands, "score", _label, about)
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


def add_plan(commands: Any) -> None:
    about = "tokens, sharing, memory and the first prompt of a job, without running the model"
    parser = add_command(commands, "plan", _plan, about)
    _add_judge_options(parser)
    _add_method_options(parser)


def _label(args: argparse.Namespace) -> int:
    from preftree.labeling.options import LabelOptions
    from preftree.labeling.runs.run import run_label

    names = ("out", "overwrite", "force_new", "retry_rejects", "shard", "quiet", "profile")
    own = {name: getattr(args, name) for name in names}
    options = LabelOptions(**_judge_settings(args), **own)
    return reported(run_label(options), args.quiet)


def _plan(args: argparse.Namespace) -> int:
    from preftree.labeling.options import JudgeOptions
    from preftree.labeling.runs.show import plan_lines

    for line in plan_lines(JudgeOptions(**_judge_settings(args))):
        print(line)
    return OK


def _add_judge_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", nargs="+", metavar="INPUT", help=_INPUT_HELP)
    add("--model", default="embedded", help="embedded (the default), a Hugging Face directory, or a .gguf")
    templates = "one of those that `preftree templates` lists, or a file (default: what suits the method)"
    add("--template", metavar="NAME|FILE", help=templates)
    add("--preamble", default="detailed", metavar="NAME", help="base or detailed (the default)")
    add("--exemplars", type=natural, default=0, metavar="N", help="few-shot exemplars to show (default 0)")
    rendering = parser.add_mutually_exclusive_group()
    for name, about in (("chat", "apply the model's chat template"), ("plain", "skip the model's chat template")):
        rendering.add_argument(f"--{name}", dest="rendering", action="store_const", const=name, help=about)
    parser.set_defaults(rendering="auto")
    add("--limit", type=positive, metavar="N", help="the first N rows only")
    about = "take COLUMN for a field, such as response_a=output or prompt=info.post; give it again for another"
    add("--map", dest="mapping", action="append", default=[], metavar="FIELD=COLUMN", help=about)
    about = "auto (the default: a GPU that can run the model, else the CPU), cpu, cuda, or cuda:N for one of several"
    add("--device", type=device, default="auto", metavar="NAME", help=about)
    about = "of weights and activations (default: bfloat16 on a GPU, float32 on a CPU)"
    add("--dtype", choices=("float32", "bfloat16", "float16"), help=about)
    about = "unique tokens a forward pass may take (default: as many as run well and fit)"
    add("--batch-tokens", type=positive, metavar="N", help=about)
    add("--no-prefix-cache", action="store_true", help="disable the shared-prefix KV cache")


def _add_method_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    about = (
        "rlaif (pairs, the default), direct (a score for each response), salmon (a score for each principle), ranking"
    )
    names = [name for name, entry in METHODS.items() if entry.is_chosen_by_name]
    add("--method", choices=names, default="rlaif", help=about)
    add("--scale", metavar="LOW-HIGH", help="direct: the labels, in place of the template's, such as 1-5")
    add("--principles", metavar="NAME|FILE", help="salmon: a set of principles, YAML or JSON")
    about = "salmon: strongest (the default: the principle with the largest score decides), weighted, or won"
    add("--aggregate", choices=("strongest", "weighted", "won"), help=about)
    about = "ranking: ordered pairs to judge in a row (default: all)"
    add("--comparisons", type=positive, metavar="N", help=about)
    _add_reasoning_options(parser)


def _add_reasoning_options(parser: argparse.ArgumentParser) -> None:
    about = "rlaif, direct, salmon: chain of thought: generate a rationale before scoring the label"
    parser.add_argument("--cot", action="store_true", help=about)
    add = parser.add_argument_group("with --cot").add_argument
    add("--max-rationale-tokens", type=positive, metavar="N", help="token limit of a rationale (default 512)")
    about = "rationales to sample for each prompt; label probabilities are averaged (default 1; needs --temperature)"
    add("--samples", type=positive, metavar="N", help=about)
    about = "sampling temperature; 0 (the default) is greedy decoding"
    add("--temperature", type=number, metavar="T", help=about)
    add("--top-k", type=positive, metavar="K", help="sample from the K most probable tokens")
    add(
        "--top-p",
        type=number,
        metavar="P",
        help="nucleus sampling: from the most probable tokens that sum to P",
    )
    add("--seed", type=natural, metavar="N", help="sampling seed (default 0)")
    about = "memory for the KV cache while rationales are generated (default: what the device has to spare)"
    add("--kv-memory", type=positive, metavar="BYTES", help=about)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="output directory; an existing run of the same job is resumed")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="replace what DIR holds")
    about = "start a new run in DIR-2, DIR-3, ... instead of resuming"
    again.add_argument("--force-new", action="store_true", help=about)
    add("--retry-rejects", action="store_true", help="judge rejected rows again")
    add("--shard", type=shard, metavar="I/N", help="only this part of the rows; `preftree merge` joins the parts")
    add("--quiet", action="store_true", help="no progress and no summary")
    about = "write a trace of the first forward passes to FILE, for ui.perfetto.dev; compressed if it ends in .gz"
    add("--profile", metavar="FILE", help=about)
    parser.set_defaults(when_interrupted="; nothing was written")


def _judge_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `JudgeOptions`."""
    same = (
        "model",
        "template",
        "preamble",
        "exemplars",
        "rendering",
        "limit",
        "dtype",
        "batch_tokens",
    )
    settings = {name: getattr(args, name) for name in same} | {
        "input": tuple(args.input),
        "mapping": tuple(args.mapping),
    }
    of_methods = ("method", "scale", "principles", "aggregate", "comparisons", "subset")
    of_rationales = ("cot", "max_rationale_tokens", "samples", "temperature", "top_k", "top_p", "seed", "kv_memory")
    settings |= {name: getattr(args, name) for name in (*of_methods, *of_rationales) if hasattr(args, name)}
    if args.method == "principled":
        settings["principle_sets"] = _principle_sets(args)
    settings["device"] = None if args.device == "auto" else args.device
    return {**settings, "prefix_cache": not args.no_prefix_cache}


def _principle_sets(args: argparse.Namespace) -> tuple[tuple[str, ...], ...]:
    from preftree.labeling.principles.sets import GUARDS

    common = (*args.add_principle, *(GUARDS if args.guard else ()))
    return tuple((*chosen, *common) for chosen in args.under or [()])
