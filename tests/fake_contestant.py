"""A worker that speaks the protocol of benchmarks.peers with made-up times: python fake_contestant.py JOB.json

Which contestant it plays stands in the job. Settings of a prefix cache are faster the more waves they have.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

SECONDS = {
    ("preftree", "float32"): 4.0,
    ("preftree", "bfloat16"): 2.0,
    ("preftree", "int8"): 1.0,
    ("padded", "float32"): 40.0,
    ("padded", "bfloat16"): 20.0,
    ("prefix", "float32"): 8.0,
    ("prefix", "bfloat16"): 5.0,
    ("vllm", "bfloat16"): 6.0,
    ("openvino", "bfloat16"): 7.0,
}
ERRORS = {"float32": 0.0, "bfloat16": 0.25, "int8": 0.5}


def main(path: str) -> None:
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    who = job.get("family", "rates"), job.get("dtype", "")
    if who == ("openvino", "int8"):
        sys.exit("libopenvino.so: cannot open shared object file")
    print(json.dumps({"ready": True, "version": "1.0", "pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(job, who, json.loads(line))), flush=True)


def answer(job: dict[str, Any], who: tuple[str, str], request: dict[str, Any]) -> dict[str, Any]:
    if who[0] == "rates":
        return {"matrix": 1e9, "layer": 2e9, "layer_call": "made up"}
    count = request["prompts"]
    assert len(job["workloads"][request["workload"]]["ids"]) >= count
    waves = request["setting"].get("waves")
    assert waves is None or sorted(place for wave in waves for place in wave) == list(range(count))
    # Twice the prompts take twice as long; the last setting of transformers is the slowest.
    slower = 1 / len(waves) if waves else 1 + request["setting"].get("candidate", 0)
    logprobs = [[-1.0 + ERRORS[who[1]], -2.0]] * count
    return {
        "seconds": SECONDS[who] * count * slower,
        "logprobs": None if who[0] == "openvino" else logprobs,
        "peak_bytes": 123_000_000,
    }


if __name__ == "__main__":
    main(sys.argv[1])
