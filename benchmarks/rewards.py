"""How fast rewards come out of the trie, beside transformers' padded batches of the same texts.

    python -m benchmarks.rewards [--model RM] [--dtype bfloat16]

Two workloads: many responses to one prompt, and one response under many sets of principles. Both run in the same type,
in turns; prints tokens, sharing, the ratio of each round's times and the largest difference of a reward, and one line
of JSON last. Without --model the embedded model gets a random head.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import check_out, ends_in_one_line, positive, write_json
from benchmarks.hugging_face import embedded_directory
from benchmarks.machine import Machine
from preftree.engine.engine import Engine

# Of the padded peer, to choose from.
BATCHES = (8, 16, 32)
RESPONSES, SETS, TEXT_TOKENS = 64, 16, 200
_STATEMENT_TOKENS = 40


@ends_in_one_line("benchmarks.rewards")
def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    check_out(args.out)
    with tempfile.TemporaryDirectory() as directory:
        run(args, args.model or _random_reward_model(Path(directory)))
    return 0


def run(args: argparse.Namespace, model: str) -> None:
    """The command, once its arguments are parsed. Raises PreftreeError."""
    machine = Machine.find()
    with Engine.load(model, device="cpu", dtype=args.dtype) as engine:
        peer = PaddedPeer(model, engine.dtype)
        print(f"machine    {machine.cpu}, {machine.cpus} CPUs, commit {machine.commit}")
        print(f"dtype      {engine.dtype_name}, of the engine and of transformers")
        found = {
            name: _compared(name, engine, peer, texts, args.rounds)
            for name, texts in workloads(engine.checkpoint.config.vocab_size).items()
        }
    whole = {"model": args.model, "dtype": str(engine.dtype), "machine": machine.record(), "workloads": found}
    write_json(args.out, whole)
    print(f"\n{json.dumps(whole)}")


def workloads(vocab_size: int) -> dict[str, list[list[int]]]:
    """Random token ids of each, with the lengths of real texts: how they share does not depend on what they say."""
    draw = np.random.default_rng(0)

    def text(tokens: int) -> list[int]:
        found: list[int] = draw.integers(vocab_size // 2, vocab_size, tokens).tolist()
        return found

    prompt, response = text(TEXT_TOKENS), text(TEXT_TOKENS)
    return {
        "responses": [prompt + text(int(draw.integers(10, TEXT_TOKENS // 4))) for _ in range(RESPONSES)],
        "principle sets": [prompt + response + text(_STATEMENT_TOKENS) for _ in range(SETS)],
    }


class PaddedPeer:
    """transformers on batches of neighbours, padded to the longest."""

    def __init__(self, model: str, dtype: torch.dtype) -> None:
        from transformers import AutoModelForSequenceClassification

        self._model = AutoModelForSequenceClassification.from_pretrained(model, dtype=dtype).eval()

    def rewards(self, texts: Sequence[Sequence[int]], batch: int) -> np.ndarray:
        """[texts] float32."""
        pad = self._model.config.pad_token_id
        found = []
        for first in range(0, len(texts), batch):
            some = texts[first : first + batch]
            ids = torch.full((len(some), max(map(len, some))), pad)
            for row, one in zip(ids, some, strict=True):
                row[: len(one)] = torch.tensor(one)
            with torch.inference_mode():
                logits = self._model(input_ids=ids, attention_mask=(ids != pad).long()).logits
            found.append(logits.float().squeeze(-1).numpy())
        return np.concatenate(found)


def _compared(name: str, engine: Engine, peer: PaddedPeer, texts: list[list[int]], rounds: int) -> dict[str, Any]:
    plan = engine.plan(texts)
    batch = min(BATCHES, key=lambda size: _timed(lambda: peer.rewards(texts, size))[0])
    engine.reward(texts, prefix_cache=False)  # warm
    ratios, gap = [], 0.0
    for _ in range(rounds):
        ours, mine = _timed(lambda: engine.reward(texts, prefix_cache=False))
        theirs, padded = _timed(lambda: peer.rewards(texts, batch))
        ratios.append(theirs / ours)
        gap = float(abs(mine - padded).max())
    print(
        f"\n{name}: {len(texts)} texts, {plan.prompt_tokens:,} tokens, {plan.rows:,} unique "
        f"({plan.rows / plan.prompt_tokens:.0%})\n"
        f"  ratio                {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}), "
        f"transformers in batches of {batch}\n"
        f"  largest difference   {gap:.2g}",
        flush=True,
    )
    return {"tokens": plan.prompt_tokens, "unique": plan.rows, "ratios": ratios, "batch": batch, "difference": gap}


def _timed(work: Any) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def _random_reward_model(directory: Path) -> str:
    """The embedded model with a head that is nobody's."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = embedded_directory()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype="float32")
    model.config.pad_token_id = 3  # a control token that no text has
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(source).save_pretrained(directory)
    return str(directory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rewards", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--model", metavar="RM", help="a reward model's directory (default: the embedded model with a random head)")
    add("--rounds", type=positive, default=5, metavar="N", help="times that both are measured (default 5)")
    add("--dtype", default="auto", help="of both, such as float32 (default: auto, see preftree.Engine.load)")
    add("--out", type=Path, metavar="FILE.json", help="where the JSON goes, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
