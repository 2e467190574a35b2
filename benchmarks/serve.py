"""How fast `preftree serve` answers many clients, beside the same server with one request a forward pass.

    python -m benchmarks.serve --data FILE

64 clients send one completion each at once: 8 completions of 8 prompts, as a step of GRPO does. Prints a table, and one
line of JSON last. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.arguments import check_out, ends_in_one_line, positive, say, write_json
from benchmarks.machine import Machine
from preftree.engine.errors import InputError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.row import prompt_value
from preftree.labeling.types import Pair

PROMPTS = COMPLETIONS = 8
_TIMEOUT = 600


@dataclass(frozen=True)
class Measured:
    """One server under the load.

    Attributes:
        seconds: of each round, from the first request to the last answer.
        latencies: of every request, in seconds.
        prompt_tokens: of all prompts.
        unique_tokens: that went through the model.
        batches: how many there were.
        rewards: of the last round.
    """

    seconds: list[float]
    latencies: list[float]
    prompt_tokens: float
    unique_tokens: float
    batches: float
    rewards: list[float]

    @property
    def record(self) -> dict[str, float]:
        """The figures of the table."""
        per_round = len(self.rewards)
        cuts = statistics.quantiles(self.latencies, n=100, method="inclusive")
        return {
            "requests_per_second": per_round / statistics.median(self.seconds),
            "unique_to_prompt_tokens": self.unique_tokens / self.prompt_tokens,
            "p50_seconds": cuts[49],
            "p99_seconds": cuts[98],
            "requests_per_batch": per_round * len(self.seconds) / self.batches,
        }


@ends_in_one_line("benchmarks.serve")
def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    run(args)
    return 0


def run(args: argparse.Namespace) -> None:
    """The command, once its arguments are parsed. Raises PreftreeError."""
    check_out(args.out)
    bodies = load_bodies(args.data)
    serve = ["--model", args.model, "--deadline", str(_TIMEOUT), "--dtype", args.dtype]
    found = {}
    for name, more in (("micro-batching", []), ("one request a batch", ["--batch-requests", "1", "--window", "0"])):
        say(f"{name}: {args.rounds} rounds of {len(bodies)} requests")
        with _server([*serve, *more]) as address:
            found[name] = measure(address, bodies, args.rounds)
    together, alone = found.values()
    if together.rewards != alone.rewards:
        raise InputError("the two servers gave different rewards; batches must not change bits")
    print(_table({name: one.record for name, one in found.items()}))
    records = {name: one.record for name, one in found.items()}
    ratio = together.record["requests_per_second"] / alone.record["requests_per_second"]
    print(f"\nthroughput: {ratio:.2f} times that of one request a batch; the rewards have the same bits")
    whole = {"model": args.model, "machine": asdict(Machine.find()), "servers": records, "ratio": ratio}
    write_json(args.out, whole)
    print(f"\n{json.dumps(whole)}")


def load_bodies(data: Path) -> list[dict[str, Any]]:
    """What the clients send: for each of 8 prompts of `data`, both responses of 4 of its pairs. Raises InputError."""
    pairs = [item for item in Dataset.open(str(data)).read() if isinstance(item, Pair)]
    if len(pairs) < PROMPTS:
        raise InputError(f"{data} has {len(pairs)} pairs; {PROMPTS} are needed")
    responses = [text for pair in pairs[: COMPLETIONS // 2] for text in (pair.response_a, pair.response_b)]
    prompts = [prompt_value(pair.prompt) for pair in pairs[:PROMPTS]]
    return [{"prompt": prompt, "response": response} for response in responses for prompt in prompts]


def measure(address: tuple[str, int], bodies: Sequence[dict[str, Any]], rounds: int) -> Measured:
    """All requests at once, a client each, as often as there are rounds; a first round is not counted."""
    _round(address, bodies)
    before = _counters(address)
    done = [_round(address, bodies) for _ in range(rounds)]
    after = _counters(address)
    prompt_tokens, unique_tokens, batches = (now - then for now, then in zip(after, before, strict=True))
    latencies = [one for _, times, _ in done for one in times]
    return Measured([whole for whole, _, _ in done], latencies, prompt_tokens, unique_tokens, batches, done[-1][2])


def _round(address: tuple[str, int], bodies: Sequence[dict[str, Any]]) -> tuple[float, list[float], list[float]]:
    """Seconds of the whole round and of each request, and the rewards."""
    start = threading.Barrier(len(bodies))

    def ask(body: dict[str, Any]) -> tuple[float, float, float]:
        connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT)
        connection.connect()
        start.wait()
        began = time.perf_counter()
        connection.request("POST", "/reward", json.dumps(body), {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            reward = json.loads(response.read())
        connection.close()
        if not isinstance(reward, float):
            raise InputError(f"the server answered {reward}")
        return began, time.perf_counter(), reward

    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(ask, bodies))
    whole = max(end for _, end, _ in answers) - min(began for began, _, _ in answers)
    return whole, [end - began for began, end, _ in answers], [reward for *_, reward in answers]


def _counters(address: tuple[str, int]) -> tuple[float, ...]:
    """Prompt tokens, unique tokens, batches."""
    connection = http.client.HTTPConnection(*address, timeout=_TIMEOUT)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    names = ("preftree_prompt_tokens", "preftree_unique_tokens", "preftree_batch_jobs_count")
    return tuple(float(found[name]) for name in names)


@contextmanager
def _server(options: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Where a server in a process of its own listens, until the context ends."""
    command = [sys.executable, "-m", "preftree", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        if not said.startswith("listening at "):
            raise InputError(f"the server did not start: {said.strip()}")
        url = urlsplit(said.split()[2].rstrip(";"))
        try:
            yield url.hostname or "", url.port or 0
        finally:
            process.terminate()


def _table(records: dict[str, dict[str, float]]) -> str:
    lines = [
        "| server | requests/s | unique/prompt tokens | p50 | p99 | requests a batch |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, one in records.items():
        figures = (
            f"{one['requests_per_second']:.2f}",
            f"{one['unique_to_prompt_tokens']:.3f}",
            f"{one['p50_seconds']:.2f} s",
            f"{one['p99_seconds']:.2f} s",
            f"{one['requests_per_batch']:.1f}",
        )
        lines.append(f"| {' | '.join((name, *figures))} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="pairs, one JSON object a line")
    add("--rounds", type=positive, default=3, metavar="N", help="rounds that are measured (default 3)")
    add("--model", default="embedded", help="embedded (the default), a Hugging Face directory, or a .gguf")
    add("--dtype", default="auto", help="as of preftree serve (default auto)")
    add("--out", type=Path, metavar="FILE.json", help="where the JSON goes, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
