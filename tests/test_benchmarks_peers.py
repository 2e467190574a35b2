"""`python -m benchmarks.peers`: contestants in processes, which may be missing, die or talk nonsense."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import machine
from benchmarks.machine import Machine, Rates, Roofline
from benchmarks.peers import __main__ as peers
from benchmarks.peers import contestants, field, settings
from benchmarks.peers.accuracy import accuracy
from benchmarks.peers.answer import Answer
from benchmarks.peers.contestants import BFLOAT16, CONTESTANTS, FLOAT32, Contestant
from benchmarks.peers.field import Field
from benchmarks.peers.race import Race
from benchmarks.peers.worker import WorkerError
from benchmarks.products import activations, products
from benchmarks.random_model import small_config, write_random_model
from benchmarks.workloads import JudgePrompt, Workload
from preftree.engine.errors import InputError
from tests import fake_contestant

ROOT = Path(__file__).parent.parent
VLLM = Contestant("vllm", "bfloat16", "bfloat16")
OPENVINO = "openvino-bfloat16"
PAIRS = [
    {"prompt": "Name a planet.", "response_a": "Saturn is one.", "response_b": "The Sun."},
    {"prompt": "What is 2 + 2?", "response_a": "5", "response_b": "It is 4, since 2 and 2 are 4."},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(pair) for pair in PAIRS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("model"), small_config(num_layers=2, hidden_size=64))


@pytest.fixture
def all_are_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(*arguments: Any) -> list[str]:
        return [sys.executable, str(ROOT / "tests" / "fake_contestant.py"), str(arguments[-1])]

    monkeypatch.setattr(Contestant, "command", command)
    monkeypatch.setattr(field, "module_command", command)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, dict[str, Any]]:
    """The output without its last line, and the JSON of that."""
    assert peers.main([str(argument) for argument in arguments]) == 0
    text, _, last = capsys.readouterr().out.rstrip().rpartition("\n")
    return text, json.loads(last)


def test_all_contestants_in_turns(
    all_are_fake: None, data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch ratios the wrong way round, a setting that is not the fastest, and a peer that ends the run."""
    out = tmp_path / "result.json"
    arguments = ("--data", data, "--model", model, "--rounds", 2, "--padded-pairs", 1, "--out", out)
    text, whole = run(capsys, *arguments)
    assert json.loads(out.read_text(encoding="utf-8")) == whole
    assert whole["left_out"] == {
        "openvino-int8": "openvino-int8 ended with code 1: libopenvino.so: cannot open shared object file"
    }
    assert "left out: openvino-int8 ended with code 1" in text
    assert [job["prompts"] for job in whole["workloads"]] == [4, 44]
    many = {result["name"]: result for result in whole["workloads"][1]["results"]}
    assert list(many) == [one.name for one in CONTESTANTS if one.name != "openvino-int8"]
    for one in CONTESTANTS[:-1]:
        found, who = many[one.name], (one.family, one.dtype)
        expected = fake_contestant.SECONDS[who]
        if one.family in ("vllm", "openvino"):
            expected /= 3
            assert found["setting"] == "three waves" + ", steps of 2,048 tokens" * (one.family == "vllm")
            assert len(found["tried"]) == len(settings.WAVES) * (2 if one.family == "vllm" else 1)
        assert found["prompts_per_second"] == pytest.approx(1 / expected)
        assert found["ratio"] == pytest.approx(expected / 2)
        assert found["own_ratio"] == pytest.approx(expected / fake_contestant.SECONDS["preftree", one.dtype])
        assert found["pairs"] == (1 if one.family == "padded" else 2)
        assert found["rate"] == one.dtype
        assert found["matrix_rates"] == [1e9, 1e9]
        assert found["share_of_matrix_rate"] == pytest.approx(2 * found["share_of_layer_rate"])
        assert found["peak_bytes"] == 123_000_000
        if one.family == "openvino":
            assert found["accuracy"] is None
        else:
            assert found["accuracy"]["max_nats"] == fake_contestant.ERRORS[one.dtype]
    assert many["padded-float32"]["setting"] == "batches of 1"


def test_the_table_has_a_line_for_each(
    all_are_fake: None, data: Path, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    arguments = ("--data", data, "--model", model, "--rounds", 1, "--workloads", 2, "--peers", f"vllm,{OPENVINO}")
    text, whole = run(capsys, *arguments)
    assert "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16" in text.splitlines()[1]
    assert whole["machine"]["isa_limit"] == "AVX512_CORE_BF16"
    table = text[text.index("workload 2: 2 pairs, 4 prompts") :]
    lines = {line.split()[0]: line.split() for line in table.splitlines()[2:7]}
    assert list(lines) == [
        "preftree-float32",
        "preftree-bfloat16",
        "preftree-int8",
        "vllm-bfloat16",
        "openvino-bfloat16",
    ]
    assert lines["preftree-int8"][1:4] == ["1.00", "0.50", "1.00"]
    assert lines["vllm-bfloat16"][1:4] == ["0.50", "1.00", "1.00"]
    assert lines["vllm-bfloat16"][5] == "bfloat16"
    assert lines["vllm-bfloat16"][7:13] == ["123", "0.25", "0.12", "0.25", "0.0%", "0.0%"]
    assert " ".join(lines["vllm-bfloat16"][13:]) == "three waves, steps of 2,048 tokens"
    assert lines[OPENVINO][8:10] == ["not", "available"]


def test_preftree_alone_through_its_own_workers(
    data: Path, model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that is not installed is named with the command that installs it. A process for each takes seconds."""
    monkeypatch.setattr(contestants, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(contestants, "CONTESTANTS", (FLOAT32, BFLOAT16, VLLM))
    logs = tmp_path / "logs"
    arguments = ("--data", data, "--model", model, "--rounds", 1, "--workloads", 2, "--peers", "vllm", "--logs", logs)
    text, whole = run(capsys, *arguments)
    assert whole["left_out"]["vllm-bfloat16"] == "vllm-bfloat16 is not installed; install it with: make peers"
    assert "left out: vllm-bfloat16 is not installed; install it with: make peers" in text
    found = {result["name"]: result for result in whole["workloads"][0]["results"]}
    assert {"preftree-float32", "preftree-bfloat16"} <= found.keys()
    for name, result in found.items():
        assert math.isfinite(result["prompts_per_second"]), name
        assert 0 < result["share_of_layer_rate"] < 1
    assert found["preftree-float32"]["accuracy"]["max_nats"] == 0
    assert 0 < found["preftree-bfloat16"]["accuracy"]["max_nats"] < 0.5
    assert (logs / "preftree-bfloat16.log").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--data /nowhere.jsonl", "no such file: /nowhere.jsonl"),
        ("--data DATA --model /nowhere", "/nowhere"),
        ("--data DATA --logs DATA", "cannot write"),
    ],
)
def test_bad_input_is_one_line(
    arguments: str, said: str, data: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments.replace("DATA", str(data)).split()
    assert peers.main(given if "--model" in given else [*given, "--model", str(model)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks.peers: ")
    assert said in line


def test_an_unknown_peer_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        peers.main(["--data", "x", "--peers", "llama"])
    assert caught.value.code == 2
    assert "'llama' is not one of padded, prefix, vllm, openvino" in capsys.readouterr().err
    with pytest.raises(InputError, match="'llama' is not known"):
        contestants.chosen(["llama"])


def prompts(pairs: int, per_order: int) -> tuple[JudgePrompt, ...]:
    return tuple(
        JudgePrompt([9, pair, order, 7 - number], [[1], [2]], pair, order)
        for pair in range(pairs)
        for order in (0, 1)
        for number in range(per_order)
    )


def test_waves_send_each_prefix_once_before_the_others() -> None:
    few, many = prompts(2, 1), prompts(2, 3)
    assert settings.two_waves(few) == [[0, 2], [1, 3]]
    assert settings.three_waves(few) == [[0], [2], [1, 3]]
    assert settings.two_waves(many) == [[0, 3, 6, 9], [1, 2, 4, 5, 7, 8, 10, 11]]
    assert settings.three_waves(many)[:2] == [[0], [3, 6, 9]]
    assert settings.given(few) == [[0, 1, 2, 3]]
    assert settings.neighbours(many) == [[2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9]]


def test_a_wave_without_prompts_is_not_sent() -> None:
    workload = Workload("2", prompts(1, 1), 0.0)
    for setting in settings.settings(VLLM, workload):
        waves = setting.of(workload.prompts)["waves"]
        assert setting.of(workload.prompts)["step_tokens"] in settings.VLLM_STEP_TOKENS
        assert all(waves)
        assert sorted(place for wave in waves for place in wave) == [0, 1]


def test_accuracy_by_hand() -> None:
    asked = prompts(2, 1)
    reference = np.log([[0.6, 0.4], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    theirs = reference.copy()
    theirs[0] += [0.5, -0.5]  # more for A, which is preferred already
    theirs[3] = np.log([0.9, 0.1])  # order 1: B is shown first, and now preferred to A
    found = accuracy(theirs, reference, asked)
    assert found.max_nats == pytest.approx(math.log(8))
    assert found.mean_nats == pytest.approx((1 + math.log(4.5) + math.log(8)) / 8)
    assert found.mean_margin_nats == pytest.approx((1 + math.log(36)) / 4)
    assert found.flipped_prompts == 1 / 4
    assert found.flipped_pairs == 1 / 2


class FakeField(Field):
    """Runs nothing: times are given, and 0 is a failure."""

    def __init__(self, seconds: dict[str, list[float]]) -> None:
        super().__init__(Path(), Path(), lambda message: None)
        self.runners = [FLOAT32, BFLOAT16, VLLM]
        self.seconds = {name: iter(found) for name, found in seconds.items()}

    @property
    def present(self) -> list[Contestant]:
        return list(self.runners)

    def drop(self, contestant: Contestant, error: Exception) -> None:
        super().drop(contestant, error)
        self.runners.remove(contestant)

    def run(self, contestant: Contestant, setting: settings.Setting, workload: Workload) -> Answer:
        seconds = next(self.seconds[contestant.name])
        if seconds == 0:
            raise WorkerError(f"{contestant.name} ended with code 1")
        logprobs = [[-1.0, -2.0]] * len(workload.prompts)
        return Answer(contestant.name, {"seconds": seconds, "peak_bytes": 1, "logprobs": logprobs}, len(logprobs))

    def rates(self, dtype: str) -> Rates:
        return Rates(1e9, 1e9, "made up")


def race(seconds: dict[str, list[float]]) -> tuple[FakeField, list[Any]]:
    runners = FakeField(seconds)
    job = Workload("2", prompts(1, 1), 0.0)
    return runners, Race(runners, job, None, lambda message: None).run(2)


def test_a_peer_that_fails_in_a_round_is_left_out_and_the_others_go_on() -> None:
    ours = [9.0, 2.0, 4.0]  # a first try, then two rounds
    runners, entries = race({FLOAT32.name: ours, BFLOAT16.name: ours, VLLM.name: [1.0] * 16 + [3.0, 0]})
    assert runners.left_out == {VLLM.name: "vllm-bfloat16 ended with code 1"}
    assert [[turn.answer.seconds for turn in entry.turns] for entry in entries] == [[2.0, 4.0], [2.0, 4.0]]


def test_nothing_is_said_without_the_reference() -> None:
    with pytest.raises(WorkerError, match="preftree-bfloat16 ended"):
        race({FLOAT32.name: [1.0] * 3, BFLOAT16.name: [1.0, 0], VLLM.name: [1.0] * 18})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_products_of_every_type_multiply(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a rate of a product of other operands: transposed weights, or a zero point that is not taken off."""
    if dtype == "int8" and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(Machine.find().instructions):
        pytest.skip("no instructions for products of 8 bits, without which their sums saturate")
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.rand(rows, 32, generator=generator) - 0.5 for rows in (8, 16))
    for name, product in products(weight, dtype).items():
        found = product(activations(x, dtype)).float()
        assert (found - x @ weight.T).abs().max() < 0.05, name
    monkeypatch.setattr(machine, "MATRIX_SIZE", 128)
    monkeypatch.setattr(machine, "LAYER_ROWS", (128,))
    rates = Roofline(small_config(num_layers=1, hidden_size=64), dtype).measure()
    assert min(rates.matrix, rates.layer) > 1e8
