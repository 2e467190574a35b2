"""The benchmarks say what they claim to say: FLOPs by hand, honest peers, output that can be read by programs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import labeling, loading, machine, memory
from benchmarks.flops import model_flops, unique_trie
from benchmarks.machine import Machine, Roofline
from benchmarks.peers.transformers import DisagreementError, candidates, check_agreement, load_transformers
from benchmarks.random_model import small_config, write_random_model
from benchmarks.workloads import JudgePrompt, Workload, load, method_of
from preftree.engine.config.model_config import ModelConfig, RopeConfig
from preftree.engine.engine import Engine
from preftree.engine.errors import InputError
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.salmon import Salmon

PAIRS = [
    {"prompt": "Name a planet.", "response_a": "Saturn is one.", "response_b": "The Sun."},
    {"prompt": "What is 2 + 2?", "response_a": "5", "response_b": "It is 4, since 2 and 2 are 4."},
]


@pytest.fixture(autouse=True)
def _small_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the rates are only to be there; measuring them well takes a second each time."""
    monkeypatch.setattr(machine, "MATRIX_SIZE", 128)
    monkeypatch.setattr(machine, "LAYER_ROWS", (128,))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    lines = ["no JSON", *(json.dumps({"id": str(number), **pair}) for number, pair in enumerate(PAIRS))]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("model"), small_config(num_layers=3, hidden_size=64))


@pytest.fixture(scope="module")
def by_name(data: Path, model: Path) -> dict[str, Workload]:
    scorer = Judge.load(str(model), weights=False)
    return {name: load(name, data, 20, scorer) for name in ("2", "22")}


def test_flops_of_a_tiny_trie_by_hand() -> None:
    """Would catch padding, recomputation or a last layer counted in full."""
    config = ModelConfig("llama", 11, 8, 12, 3, 2, 1, 4, 1e-5, RopeConfig(), 64, True)
    # [1, 2, 3] and [1, 2, 4, 5]: rows at depths 0 1 2 and 2 3, finals at depths 2 and 3, one of them asked twice.
    prompts = [
        JudgePrompt([1, 2, 3], [[7], [8]], 0, 0),
        JudgePrompt([1, 2, 4, 5], [[7], [8]], 0, 1),
        JudgePrompt([1, 2, 3], [[7], [8]], 1, 0),
    ]
    flops = model_flops(config, unique_trie(prompts))
    kv, rest = 8 * (4 + 4), 8 * 8 + 8 * 8 + 3 * 8 * 12
    assert flops.linear == 2 * (5 * (2 * (kv + rest) + kv) + 2 * rest)
    assert flops.attention == 4 * 2 * 4 * (2 * (1 + 2 + 3 + 3 + 4) + (3 + 4))
    assert flops.head == 2 * 8 * 11 * 2


def test_flops_count_the_tokens_that_a_long_label_forces() -> None:
    short = unique_trie([JudgePrompt([1, 2], [[3], [4]], 0, 0)])
    long = unique_trie([JudgePrompt([1, 2], [[3, 5, 6], [3, 5, 7], [4]], 0, 0)])
    assert (short.num_rows, long.num_rows) == (2, 4)
    assert len(np.unique(long.final_row)) == 2  # behind the prompt, and behind 3, 5


def test_workloads_ask_2_and_22_prompts_a_pair_and_share_as_told(by_name: dict[str, Workload]) -> None:
    """Would catch principles before the responses, which would leave nothing to share."""
    method = method_of("22")
    assert isinstance(method, Salmon)
    assert len(method.principles) == 11
    for name, workload in by_name.items():
        assert workload.num_pairs == 2  # the broken line is passed over
        assert len(workload.prompts) == 2 * int(name)
        assert workload.first(1).num_pairs == 1
    two, many = (unique_trie(by_name[name].prompts).num_rows for name in ("2", "22"))
    of_principles = by_name["22"].first(1).prompts[:11]
    assert [prompt.order for prompt in by_name["22"].first(1).prompts] == [0] * 11 + [1] * 11
    tails = sum(len(prompt.ids) for prompt in of_principles) - 11 * _shared(of_principles)
    assert two < many < two + 4 * tails + 44
    assert by_name["22"].prompt_tokens > 5 * many


def _shared(prompts: tuple[JudgePrompt, ...]) -> int:
    columns = zip(*(prompt.ids for prompt in prompts), strict=False)
    return next(place for place, column in enumerate(columns) if len(set(column)) > 1)


def test_the_peers_agree_with_the_engine(model: Path, by_name: dict[str, Workload]) -> None:
    """Would catch a wrong mask or position in a peer, which would make every ratio meaningless."""
    engine, theirs = Engine.load(str(model)), load_transformers(model)
    for workload in by_name.values():
        ours = engine.score(workload.ids, workload.labels).logprob
        for name in ("padded", "prefix"):
            for peer in candidates(name, theirs, workload):
                assert check_agreement(name, peer.score(workload.prompts), ours) < 1e-4, peer.setting


def test_a_peer_that_disagrees_is_an_error() -> None:
    ours = np.zeros((2, 2), dtype=np.float32)
    for wrong in (0.002, np.nan):
        with pytest.raises(DisagreementError, match="at prompt 1"):
            check_agreement("padded", np.array([[0, 0], [0, wrong]], dtype=np.float32), ours)


def test_peers_refuse_labels_that_they_cannot_score(model: Path, by_name: dict[str, Workload]) -> None:
    workload = by_name["2"]
    longer = replace(workload, prompts=tuple(replace(prompt, labels=[[5], [6, 7]]) for prompt in workload.prompts))
    (peer, *_) = candidates("padded", load_transformers(model), longer)
    with pytest.raises(InputError, match="single-token"):
        peer.score(longer.prompts)


def test_the_run_ends_in_one_line_of_json(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    given = f"--data {data} --model {model} --pairs 1 --rounds 1 --workloads 2,22 --no-memory --profile --out {out}"
    assert labeling.main([*given.split(), "--peer-pairs", "1"]) == 0
    text = capsys.readouterr().out
    whole: dict[str, Any] = json.loads(text.splitlines()[-1])
    assert text.startswith("roofline")
    assert whole == json.loads(out.read_text(encoding="utf-8"))
    assert [job["prompts"] for job in whole["workloads"]] == [2, 22]
    for job in whole["workloads"]:
        assert set(job["peers"]) == {"padded", "prefix"}
        assert all(peer["ratio"] > 0 and peer["max_difference_nats"] < 1e-3 for peer in job["peers"].values())
        assert 0 < job["share_of_layer_rate"] < 1
        assert 0 < job["planning_share"] < 1
        assert set(job["part_seconds"]) == {"linear", "attention", "element-wise", "other"}
        assert job["part_seconds"]["linear"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--data /nowhere.jsonl", "no such file: /nowhere.jsonl"),
        ("--data DATA --model /nowhere", "/nowhere"),
        ("--data EMPTY", "holds no rows"),
        ("--data DATA --out /nowhere/x.json", "cannot write /nowhere/x.json"),
        ("--data DATA --out EMPTY", "exists already"),
    ],
)
def test_bad_input_is_one_line(
    arguments: str, said: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("{}\n", encoding="utf-8")
    given = arguments.replace("DATA", str(data)).replace("EMPTY", str(empty)).split()
    assert labeling.main(given if "--model" in given else [*given, "--model", str(model)]) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("benchmarks."))
    assert said in line


@pytest.mark.parametrize("option", ["--pairs 0", "--workloads 3", "--peers llama"])
def test_wrong_usage_says_what_would_be_right(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        labeling.main(["--data", "x", *option.split()])
    assert caught.value.code == 2
    assert option.split()[0] in capsys.readouterr().err


def test_the_machine_is_described_and_measured() -> None:
    found = Machine.find()
    assert found.cpu
    assert found.cpus >= 1
    assert "torch" in found.versions
    rates = Roofline(small_config(num_layers=1, hidden_size=64)).measure()
    assert rates.matrix > 1e8
    assert rates.layer > 1e8


def test_peak_memory_sees_an_allocation() -> None:
    with memory.PeakMemory() as peak:
        block = np.ones(8_000_000)
        time.sleep(0.1)  # the sampling thread may have to wait for a processor
        del block
    assert 60e6 < peak.extra_bytes < 200e6


def test_loading_peaks_near_the_weights() -> None:
    """Catches pages of the file that stay mapped, tensors as stored beside converted ones, and freed memory kept."""
    loaded = loading.measure(loading.Case("bfloat16", "float32", shards=2), layers=6, hidden_size=768)
    assert loaded.weights_bytes > 100e6
    assert loaded.weights_bytes < loaded.peak_bytes < loading.TARGET * loaded.weights_bytes
