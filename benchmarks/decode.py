"""How fast the engine decodes rationales, beside transformers' generate and beside what the machine's memory allows.

    python -m benchmarks.decode --data FILE [--dtype bfloat16]

Both run in the same type. Prints the memory's bandwidth and the host's part of a step, then the engine by batch size,
then both on all prompts in turns, and one line of JSON last. Texts are greedy; those that differ between the two are
counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.arguments import check_out, ends_in_one_line, hugging_face_directory, positive, say, write_json
from benchmarks.continuations import Decoded, decode_with_engine, read_bandwidth, step_rate
from benchmarks.decode_host import host_seconds
from benchmarks.generate_peer import TransformersGenerate
from benchmarks.machine import Machine
from benchmarks.peers.transformers import load_transformers
from benchmarks.workloads import reasoning_prompts
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.engine import Engine
from preftree.engine.memory import is_out_of_memory
from preftree.labeling.judge.judge import Judge

# Batches of the peer to choose from.
PEER_BATCHES = (8, 16, 32)
# For the host's part of a step: as many sequences as a GPU takes together, and strings that never come.
HOST_SEQUENCES, HOST_TOKENS = 128, 100
HOST_STOP = ("\n\n\n", "Verdict:")


@ends_in_one_line("benchmarks.decode")
def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    run(args)
    return 0


def run(args: argparse.Namespace) -> None:
    """The command, once its arguments are parsed. Raises PreftreeError."""
    check_out(args.out)
    scorer = Judge.load(args.model, weights=False)
    prompts = reasoning_prompts(args.data, args.pairs, args.tokens, scorer)
    engine = Engine(open_checkpoint(args.model), device=args.device, dtype=args.dtype)
    machine, bandwidth = Machine.find(), read_bandwidth(engine.device)
    print(f"memory     {bandwidth / 1e9:.1f} GB/s read, on {engine.device_name or machine.cpu}")
    dtype = str(engine.dtype).removeprefix("torch.")
    print(f"machine    {machine.cpu}, {machine.cpus} CPUs, commit {machine.commit}")
    print(f"dtype      {dtype}, of the engine and of transformers")
    host = _host(engine)
    decode_with_engine(engine, prompts[:2], 4)  # warm
    by_batch = [_by_batch(engine, prompts, size, args.tokens, bandwidth) for size in args.batches]
    compared = _compare(args, engine, prompts) if args.peer else None
    whole = {
        "model": args.model,
        "pairs": args.pairs,
        "max_tokens": args.tokens,
        "dtype": dtype,
        "machine": machine.record(),
        "bytes_per_second": bandwidth,
        "host_seconds_per_step": host,
        "by_batch": by_batch,
        "compared": compared,
    }
    write_json(args.out, whole)
    print(f"\n{json.dumps(whole)}")


def _host(engine: Engine) -> dict[str, float]:
    """Processor time of a step without and with stop strings, which a GPU's own time has to exceed."""
    found = {
        name: host_seconds(engine.checkpoint, HOST_SEQUENCES, HOST_TOKENS, stop)
        for name, stop in (("plain", ()), ("stop", HOST_STOP))
    }
    print(
        f"host       {HOST_SEQUENCES:>4} sequences: {found['plain'] * 1e3:.2f} ms a step, "
        f"{found['stop'] * 1e3:.2f} ms where stop strings are looked for"
    )
    return found


def _by_batch(
    engine: Engine, prompts: Sequence[list[int]], size: int, max_tokens: int, bandwidth: float
) -> dict[str, Any]:
    """The engine's steps with `size` sequences, and the share of the limit that they reach."""
    chosen = prompts[:size]
    rate = step_rate(engine, chosen, max_tokens, bandwidth)
    print(
        f"steps      {len(chosen):>4} sequences, {rate.path:.0f} tokens each on average: "
        f"{rate.steps_per_second:,.1f} steps/s, {rate.tokens_per_second:,.1f} tokens/s, "
        f"{rate.share_of_limit:.0%} of the memory's limit",
        flush=True,
    )
    return {"sequences": len(chosen), "share_of_limit": rate.share_of_limit, **asdict(rate)}


def _compare(args: argparse.Namespace, engine: Engine, prompts: Sequence[list[int]]) -> dict[str, Any]:
    """Engine and transformers in turns, prompts and all; medians over the rounds."""
    model = load_transformers(hugging_face_directory(args.model), engine.dtype).to(engine.device)
    stop_ids = [engine.checkpoint.tokenizer.eos_id or 0]
    peer = _tuned(model, stop_ids, prompts, args.tokens)
    runs: dict[str, list[Decoded]] = {"engine": [], "transformers": []}
    contestants: dict[str, Callable[[], Decoded]] = {
        "engine": lambda: decode_with_engine(engine, prompts, args.tokens),
        "transformers": lambda: peer.run(prompts, args.tokens),
    }
    for number in range(args.rounds):
        for name, contestant in contestants.items():
            runs[name].append(contestant())
            say(f"round {number + 1}: {name} {runs[name][-1].seconds:.1f} s")
    ratios = [theirs.seconds / ours.seconds for ours, theirs in zip(runs["engine"], runs["transformers"], strict=True)]
    ours, theirs = runs["engine"][0], runs["transformers"][0]
    differing = sum(one != other for one, other in zip(ours.ids, theirs.ids, strict=True))
    rates = {name: found[0].tokens / statistics.median(one.seconds for one in found) for name, found in runs.items()}
    print(
        f"\n{len(prompts)} prompts, {ours.tokens:,} tokens, prompts included in the time:\n"
        f"  engine               {rates['engine']:.1f} tokens/s\n"
        f"  transformers         {rates['transformers']:.1f} tokens/s, batches of {peer.batch}\n"
        f"  ratio                {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})\n"
        f"  texts that differ    {differing}",
        flush=True,
    )
    return {"tokens_per_second": rates, "ratios": ratios, "batch": peer.batch, "differing": differing}


def _tuned(model: Any, stop_ids: Sequence[int], prompts: Sequence[list[int]], max_tokens: int) -> TransformersGenerate:
    """The batch size that is fastest: with fewer tokens it would be another one."""
    candidates = [TransformersGenerate(model, size, stop_ids) for size in PEER_BATCHES if size <= len(prompts)]
    candidates = candidates or [TransformersGenerate(model, len(prompts), stop_ids)]
    if len(candidates) == 1:
        return candidates[0]
    seconds = {}
    for candidate in candidates:
        try:
            seconds[candidate] = candidate.run(prompts, max_tokens).seconds
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        say(f"transformers in batches of {candidate.batch}: {seconds[candidate]:.1f} s")
    return min(seconds, key=seconds.__getitem__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="pairs, one JSON object a line")
    add("--pairs", type=positive, default=16, metavar="N", help="the first N pairs, in both orders (default 16)")
    add("--tokens", type=positive, default=64, metavar="N", help="generated for each prompt, at most (default 64)")
    add("--rounds", type=positive, default=3, metavar="N", help="times that both are measured (default 3)")
    add("--model", default="embedded", help="embedded (the default), a Hugging Face directory, or a .gguf")
    add("--device", help="cpu, cuda or cuda:N (default: a GPU that can run the model, else the CPU)")
    add("--dtype", default="auto", help="of both, such as float32 (default: auto, see preftree.Engine.load)")
    add("--batches", type=positive, nargs="*", default=[1, 8, 32], metavar="N", help="sequences (default 1 8 32)")
    add("--no-peer", dest="peer", action="store_false", help="leave transformers out")
    add("--out", type=Path, metavar="FILE.json", help="where the JSON goes, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
