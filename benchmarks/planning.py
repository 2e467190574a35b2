"""Seconds that `preftree plan` takes on dialogues, most of which its tokenizer needs; with one thread of it, too.

    python -m benchmarks.planning [--rows 10000] [--rounds 3]

Dialogues are chains of neighbouring words of this repository's documents: as common words repeat, and no line does. The
embedded model's tokenizer encodes them. Rounds take turns; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
# Whether the tokenizers library may use threads, by name.
WAYS = {"threads": "true", "one thread": "false"}


def write_dialogues(path: Path, rows: int) -> None:
    """Rows of HH-RLHF's layout: one to three turns, and two answers of up to five sentences."""
    draw = random.Random(SEED)
    sentence = _sentences(draw)

    def text(most: int) -> str:
        return " ".join(sentence() for _ in range(draw.randint(1, most)))

    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            turns = [f"\n\nHuman: {text(2)}\n\nAssistant: {text(2)}" for _ in range(draw.randint(0, 2))]
            begin = f"{''.join(turns)}\n\nHuman: {text(2)}\n\nAssistant: "
            row = {"id": str(number), "chosen": begin + text(5), "rejected": begin + text(5)}
            file.write(json.dumps(row) + "\n")


def _sentences(draw: random.Random) -> Callable[[], str]:
    """Makes sentences of 6 to 28 words, each of which follows the one before it somewhere in the documents."""
    following: dict[str, list[str]] = defaultdict(list)
    for page in sorted((ROOT / "docs").glob("*.md")):
        words = re.findall(r"[A-Za-z][a-z']*[,.;:?!]?|\d+|\(|\)", page.read_text(encoding="utf-8"))
        for word, after in pairwise(words):
            following[word].append(after)
    first = sorted(word for word, after in following.items() if word[0].isupper() and len(after) > 1)

    def sentence() -> str:
        words = [draw.choice(first)]
        while len(words) < 6 or (len(words) < 28 and words[-1][-1] not in ".?!"):
            words.append(draw.choice(following.get(words[-1], first)))
        return " ".join(words).rstrip(",;:.") + "."

    return sentence


def planned(path: Path, has_threads: str) -> dict[str, Any]:
    """`preftree plan` in a process of its own: its seconds, those of the processor, and what it found."""
    environment = os.environ | {"TOKENIZERS_PARALLELISM": has_threads}
    before, started = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "preftree", "plan", str(path), "--json", "--quiet"]
    found = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    seconds, after = time.perf_counter() - started, os.times()
    taken = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": seconds, "processor_seconds": taken, "plan": json.loads(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=positive, default=10_000)
    parser.add_argument("--rounds", type=positive, default=3)
    args = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "dialogues.jsonl")
        write_dialogues(path, args.rows)
        for _ in range(args.rounds):
            for name, has_threads in WAYS.items():
                runs[name].append(planned(path, has_threads))
    plans = [run["plan"] for of_way in runs.values() for run in of_way]
    if any(plan != plans[0] for plan in plans):
        raise SystemExit("plans differ: threads change what is planned")
    print(f"{args.rows:,} rows, {plans[0]['prompt_tokens']:,} prompt tokens, {plans[0]['unique_tokens']:,} unique")
    result: dict[str, Any] = {"rows": args.rows, "prompt_tokens": plans[0]["prompt_tokens"]}
    for name, of_way in runs.items():
        middle = {key: statistics.median(run[key] for run in of_way) for key in ("seconds", "processor_seconds")}
        print(f"{name:>10}: {middle['seconds']:.1f} s, {middle['processor_seconds']:.1f} s of processor time")
        result[name] = middle | {"all_seconds": [run["seconds"] for run in of_way]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
