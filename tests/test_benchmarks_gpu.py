"""The evidence run for GPUs: rehearsed as a whole on the CPU, and its watchers, which have to work the first time."""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.flops import unique_trie
from benchmarks.gpu import attention, divided, host, plan, suite, trace
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.dense import DenseAttention
from benchmarks.gpu.device import Device, Gpu, Rehearsal
from benchmarks.gpu.models import Models
from benchmarks.gpu.report import Report, Section, StepRecord, Table
from benchmarks.gpu.scoring import FIRST_WINDOW, calls_of
from benchmarks.gpu.session import Ceilings, NotHereError, Session, Step
from benchmarks.gpu.sizes import FULL, REHEARSAL
from benchmarks.gpu.supervisor import DEVICE_BROKEN, supervise
from benchmarks.gpu.targets import TARGETS, Measured, below, summary_rows, verdict
from benchmarks.gpu.texts import OPTIONS, prompts_a_pair, workload
from benchmarks.gpu.worker import work
from benchmarks.peers.transformers import PaddedPeer, build_transformers
from benchmarks.random_model import RandomSource
from preftree.labeling import pipeline
from tests.processes import printed, run_python

CPU = torch.device("cpu")
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A first call, and a second one on all that it leaves out, in this process; gguf is missing where it counts."""
    directory = tmp_path_factory.mktemp("gpu")
    worker = ["--out", str(directory), "--rehearse", "--worker", str(time.time() + 600)]
    extra = [step.title for step in plan.steps(REHEARSAL) if step.is_extra]
    Report(directory, is_rehearsal=True, facts={"command": "a test"}).save()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny products wait longer for other threads than they take
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "gguf", None)
        patch.setattr(suite, "marked_files", lambda: ["tests/kernels/test_cuda_linear.py"])
        assert main(worker) == 0
        Report.load(directory).next_call({"command": "a second test"}).save()
        assert main([*worker, *(item for title in extra for item in ("--only", title))]) == 0
    torch.set_num_threads(threads)
    return Report.load(directory)


def test_one_device_is_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a failed step where there is one GPU, and CPUs that are divided there in place of it."""
    gpu = Rehearsal()
    assert divided.two_devices(gpu) == "cpu,cpu"
    gpu.is_rehearsal = False
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(NotHereError, match="divided over 2 GPUs, and there is 1"):
        divided.two_devices(gpu)


def test_a_rehearsal_takes_every_step(rehearsed: Report) -> None:
    """Would catch a step that breaks on what another one of its kind survives, a shape or a workload."""
    taken = {step.title: step for step in rehearsed.all_steps}
    assert taken.keys() == {step.title for step in plan.steps(REHEARSAL)}
    ended = {step.title: step.status for step in taken.values() if step.status != "done"}
    assert ended == {"Nsight Compute, attention, Llama-3-8B": "skipped", "Launch settings": "skipped"}
    done = [step for step in taken.values() if step.title not in ended]
    assert all(step.section.tables or step.section.lines for step in done)
    assert all(table.rows for step in done for table in step.section.tables)


def test_a_first_call_takes_what_is_not_extra(rehearsed: Report) -> None:
    first = [step.title for step in plan.steps(REHEARSAL) if not step.is_extra]
    whose = {step.title: "earlier call on CPU" in step.note for step in rehearsed.all_steps}
    assert [title for title in first if title in rehearsed.planned or whose[title]] == first
    assert [step.title for step in rehearsed.steps] == rehearsed.planned


def test_a_rehearsal_measures_every_target(rehearsed: Report) -> None:
    found = [item for step in rehearsed.all_steps for item in step.section.measured]
    measured = {item.target for item in found if item.value is not None}
    assert measured == TARGETS.keys() - {"tests"}  # those skip themselves here
    assert all(item.value == 0 for item in found if item.target == "bits")
    assert all(item.value is not None and item.value < 1e-4 for item in found if item.target == "agreement")


def test_the_report_says_that_it_is_a_rehearsal(rehearsed: Report) -> None:
    files = {path.name for path in rehearsed.directory.iterdir()}
    assert files == {"gpu.json", "gpu.md", "tests.txt", "trace.json.gz"}
    text = (rehearsed.directory / "gpu.md").read_text(encoding="utf-8")
    assert "REHEARSAL" in text.splitlines()[0]
    assert all(f"## {step.title}" in text for step in rehearsed.all_steps if step.status == "done")
    with gzip.open(rehearsed.directory / "trace.json.gz", "rt") as file:
        assert json.load(file)["traceEvents"]


def session_of(directory: Path, seconds_left: float = 60.0, device: Device | None = None) -> Session:
    device = device or Rehearsal()
    report = Report(directory, is_rehearsal=True)
    return Session(device, REHEARSAL, report, Models(device, REHEARSAL), time.time() + seconds_left)


def say(line: str) -> Callable[[Session], Section]:
    return lambda session: Section(lines=[line], data={"said": line})


def fail(error: Exception) -> Callable[[Session], Section]:
    def action(session: Session) -> Section:
        raise error

    return action


def test_a_failing_step_is_noted_and_the_next_one_runs(tmp_path: Path) -> None:
    steps = [
        Step("breaks", 1, fail(ValueError("no such thing\nand more"))),
        Step("too large", 1, fail(NotHereError("needs 40 GB, the device has 24 GB"))),
        Step("works", 1, say("fine")),
    ]
    assert work(session_of(tmp_path), steps) == 0
    report = Report.load(tmp_path)
    assert [(step.status, step.note) for step in report.steps] == [
        ("failed", "ValueError: no such thing"),
        ("skipped", "needs 40 GB, the device has 24 GB"),
        ("done", ""),
    ]
    assert report.data("works") == {"said": "fine"}
    assert "Traceback" in (tmp_path / "errors.txt").read_text(encoding="utf-8")
    assert "fine" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_the_deadline_skips_what_does_not_fit(tmp_path: Path) -> None:
    steps = [Step("long", 100, say("never")), Step("short", 5, say("still"))]
    assert work(session_of(tmp_path, seconds_left=50), steps) == 0
    long, short = Report.load(tmp_path).steps
    assert (long.status, short.status) == ("not finished", "done")
    assert long.note in ("takes about 100 s, 49 s were left", "takes about 100 s, 50 s were left")


def test_a_broken_device_ends_the_worker_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """An illegal access leaves a CUDA context that answers with errors only."""

    class Broken(Rehearsal):
        def synchronize(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    steps = [Step("breaks", 1, fail(RuntimeError("CUDA error"))), Step("works", 1, say("fine"))]
    session = session_of(tmp_path, device=Broken())
    assert work(session, steps) == DEVICE_BROKEN
    assert [step.title for step in Report.load(tmp_path).steps] == ["breaks"]
    again = session_of(tmp_path)
    again.report = Report.load(tmp_path)
    assert work(again, steps) == 0
    assert [step.status for step in Report.load(tmp_path).steps] == ["failed", "done"]


# Workers that never import torch. The first takes a step and dies or hangs in it, the second finds it noted.
WORKER = """
import os, sys, time
from pathlib import Path
from benchmarks.gpu.report import Report, StepRecord
report = Report.load(Path({directory!r}))
if report.steps and not {always}:
    report.steps.append(StepRecord("second", "done"))
    report.save()
    sys.exit(0)
report.steps.append(StepRecord("first", "running", began=time.time(), limit={limit}))
report.save()
{fate}
"""


def supervised(directory: Path, fate: str, limit: float = 60, seconds: float = 30, always: bool = False) -> int:
    Report(directory, is_rehearsal=True).save()
    code = WORKER.format(directory=str(directory), fate=fate, limit=limit, always=always)
    return supervise([sys.executable, "-c", code], directory, time.time() + seconds)


@pytest.mark.parametrize(
    ("fate", "limit", "note"),
    [
        ("os.abort()", 60, "its process ended with code -6"),
        ("os._exit(3)", 60, "its process ended with code 3"),
        ("time.sleep(60)", 0.5, "no end after 0 s"),
    ],
)
def test_a_worker_that_crashes_or_hangs_is_replaced(tmp_path: Path, fate: str, limit: float, note: str) -> None:
    assert supervised(tmp_path, fate, limit) == 0
    first, second = Report.load(tmp_path).steps
    assert (first.status, first.note, second.status) == ("lost", note, "done")


def test_the_time_is_up_whatever_the_worker_does(tmp_path: Path) -> None:
    started = time.time()
    assert supervised(tmp_path, "time.sleep(60)", seconds=1, always=True) == 1
    assert time.time() - started < 30
    (step,) = Report.load(tmp_path).steps
    assert (step.status, step.note) == ("not finished", "the time was up")


def test_a_worker_that_never_starts_is_not_tried_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Report(tmp_path, is_rehearsal=True).save()
    assert supervise([sys.executable, "-c", "raise SystemExit(1)"], tmp_path, time.time() + 30) == 1
    assert capfd.readouterr().err.count("its process ended with code 1") == 1


@needs_no_gpu
def test_without_a_gpu_one_line_says_what_to_do(tmp_path: Path) -> None:
    result = run_python("-m", "benchmarks.gpu", "--out", tmp_path / "out")
    (line,) = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (1, "")
    assert line.startswith("benchmarks.gpu: torch sees no CUDA device")
    assert "--rehearse" in line


def test_what_only_cuda_has_is_there() -> None:
    """torch has these names in every build. Would catch a typing error that no rehearsal reaches."""
    for name in ("Event", "_sleep", "current_device", "empty_cache", "get_device_properties", "is_available"):
        assert callable(getattr(torch.cuda, name)), name
    for name in ("max_memory_allocated", "memory_allocated", "reset_peak_memory_stats", "synchronize"):
        assert callable(getattr(torch.cuda, name)), name


def test_bursts_are_timed_between_events_behind_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch an event before the pause, or a time that is not that of one call."""
    stream: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            stream.append("event")

        def synchronize(self) -> None:
            stream.append("wait")

        def elapsed_time(self, end: Event) -> float:
            return 6.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: stream.append("pause"))
    seconds = Gpu._burst(object.__new__(Gpu), [lambda: stream.append("call")] * 2, rounds=3, launching=1e-3)
    assert seconds == pytest.approx(6e-3)
    assert stream == ["pause", "event", *["call"] * 6, "event", "wait"]


def test_a_timing_is_that_of_one_call() -> None:
    class Clock(Rehearsal):
        def _burst(self, calls: Any, rounds: int, launching: float) -> float:
            return 0.002 * rounds * len(calls)

    device = Clock()
    device.most_calls = 100
    timing = device.time([lambda: None] * 4, window=0.05)
    assert (timing.seconds, timing.spread) == (pytest.approx(0.002), pytest.approx(0))


# In a process without TRITON_INTERPRET: the kernels' launchers on meta tensors of full size, with all their asserts.
DRY_RUN = """
import time
from pathlib import Path
import torch
from benchmarks.gpu import attention, elementwise, head, linear, warm
from benchmarks.gpu.dense import DenseAttention
from benchmarks.gpu.device import Device, Timing
from benchmarks.gpu.report import Report
from benchmarks.gpu.session import Ceilings, Session
from benchmarks.gpu.sizes import FULL
from benchmarks.kernels.dry_launch import recorded
from preftree.kernels import cuda

class Dry(Device):
    torch_device, dtype, ops = torch.device("meta"), torch.bfloat16, cuda
    cache_bytes, is_rehearsal = 60 << 20, True

    def time(self, calls, window=0.0):
        for call in calls:
            call()
        return Timing(1e-3, 0.0, 1e-3)

session = Session(Dry(), FULL, Report(Path(), False), None, time.time() + 600, Ceilings(4e12, 8e14))
with recorded(90) as launched:
    for shape in FULL.shapes:
        for step in (elementwise.run, head.run, linear.run):
            step(session, shape)
        attention.run(session, shape, 2000)
    for shape, kind in warm.tasks(FULL):
        if kind not in ("scoring", "decoding"):
            warm.kernel_call(session.device, FULL, shape, kind)()
print(*sorted({variant.name for variant in launched}))
"""


def test_kernels_take_what_the_steps_hand_them() -> None:
    """Would catch a launcher that has changed, which the CPU's operations do not show."""
    names = printed("-c", DRY_RUN, own={"TRITON_INTERPRET": None}).split()
    head = ["label_head_join_kernel", "label_head_logit_kernel", "label_head_split_kernel"]
    launched = ["gated_kernel", *head, "rms_norm_kernel", "rope_kernel", "rope_qkv_kernel", "tree_attention_kernel"]
    assert names == launched


def test_floors_and_shares() -> None:
    ceilings = Ceilings(copy=4e12, matrix=8e14)
    assert ceilings.floor(4e9) == pytest.approx(1e-3)
    assert ceilings.floor(4e9, 8e12) == pytest.approx(1e-2)
    assert np.isnan(Ceilings().floor(4e9))


def test_verdicts() -> None:
    assert verdict(TARGETS["attention"], 0.6) == "reached"
    assert verdict(TARGETS["attention"], 0.45) == "missed by 25%"
    assert verdict(TARGETS["idle"], 0.1) == "missed by 100%"
    assert verdict(TARGETS["bits"], 3.0) == "missed by 3"
    assert verdict(TARGETS["bits"], None) == "not measured"
    found = [
        Measured("attention", "one", 0.7),
        Measured("attention", "two", 0.3, roofline=0.21),
        Measured("idle", "all", float("nan")),
    ]
    rows = {row[0]: row[1:] for row in summary_rows(found)}
    told = ["at least 0.6", "0.3", "two", "missed by 50%", "21.0%", "1 of 2"]
    assert rows[TARGETS["attention"].text] == told
    assert rows[TARGETS["idle"].text] == ["at most 0.05", "-", "-", "not measured", "-", "0 of 1"]
    assert below(found) == [f"{TARGETS['attention'].text}: 0.3, wanted at least 0.6 (two)"]


def test_a_report_survives_nan_and_infinity(tmp_path: Path) -> None:
    """JSON has neither; a report that cannot be read back would stop the next worker."""
    table = Table("rates", ["a|b", "c"])
    table.add("1|2", 3)
    section = Section([table], data={"rate": float("nan")}, measured=[Measured("idle", "x", float("inf"))])
    Report(tmp_path, False, steps=[StepRecord("one", "done", section=section)]).save()
    report = Report.load(tmp_path)
    assert report.data("one") == {"rate": None}
    assert report.steps[0].section.measured == [Measured("idle", "x", None)]
    assert "| 1/2 | 3 |" in report.markdown()


def test_time_by_part_from_kernel_names() -> None:
    """Names as they come out of Triton, cuBLAS and torch."""
    assert trace.part_of("tree_attention_kernel") == "attention"
    assert trace.part_of("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT") == "GEMM"
    assert trace.part_of("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64") == "GEMM"
    assert trace.part_of("void cublasLt::splitKreduce_kernel<32, 16, int, float>") == "GEMM"
    assert trace.part_of("label_head_split_kernel") == trace.part_of("label_head_logit_kernel") == "label head"
    assert trace.part_of("rope_kernel") == trace.part_of("add_rms_norm_kernel") == "element-wise"
    assert trace.part_of("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add>") == (
        "element-wise"
    )
    assert trace.part_of("Memcpy HtoD (Pinned -> Device)") == "copies"
    overlapping = [trace.Interval("gemm", 0, 3), trace.Interval("rope_kernel", 1, 2), trace.Interval("gemm", 5, 6)]
    assert trace.busy_seconds(overlapping) == 4
    assert trace.part_seconds(overlapping)["GEMM"] == 4
    assert trace.slowest(overlapping, 1) == [("gemm", 2, 4)]


def test_planning_that_has_moved_is_named_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = ("preftree.engine.scoring.runner", "no_such_planner")
    monkeypatch.setattr(host, "PLANNING", (*host.PLANNING, moved, ("preftree.engine.no_such_module", "x")))
    with host.host_clock() as clock:
        pass
    assert clock.missing == ["preftree.engine.scoring.runner.no_such_planner", "preftree.engine.no_such_module.x"]


def test_only_the_devices_own_work_counts_as_busy() -> None:
    """Ranges of the host are drawn beside the kernels, too, and would hide every idle moment."""
    gpu = object.__new__(Gpu)
    gpu.trace_kinds = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
    kinds = ("cuda_runtime", "gpu_user_annotation", "user_annotation", "cpu_op", "gpu_memcpy", "kernel")
    events: list[dict[str, Any]] = [
        {"ph": "X", "cat": kind, "name": kind, "ts": 1e6 + 10.0 * place, "dur": 5.0} for place, kind in enumerate(kinds)
    ]
    found = trace.intervals(gpu, {"traceEvents": [*reversed(events), {"ph": "M", "name": "process_name"}]})
    assert [interval.name for interval in found] == ["gpu_memcpy", "kernel"]
    assert trace.busy_seconds(found) == pytest.approx(10e-6)
    with pytest.raises(RuntimeError, match="saw no kernel"):
        trace.intervals(gpu, {"traceEvents": events[:3]})


def test_dense_attention_without_grouped_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the backend refuses grouped heads, K and V are repeated, and the report says so."""
    real, grouped = torch.nn.functional.scaled_dot_product_attention, []

    def refusing(*arguments: Any, enable_gqa: bool, **named: Any) -> torch.Tensor:
        grouped.append(enable_gqa)
        if enable_gqa:
            raise RuntimeError("No available kernel. Aborting execution.")
        return real(*arguments, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refusing)
    dense = DenseAttention(Rehearsal(), heads=4, kv_heads=2, size=8, window=1e-4)
    assert dense.seconds(2, 16) > 0
    assert dense.seconds(2, 16) > 0
    assert grouped.count(True) == 1
    (remark,) = dense.remarks
    assert "No available kernel" in remark


def test_a_trace_that_is_too_large_is_cut(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    events = [{"ph": "X", "name": random.bytes(50).hex()} for _ in range(200)]
    size = trace.write_gzip({"traceEvents": events}, tmp_path / "t.gz", most_bytes=6000)
    assert 1000 < size <= 6000


TESTS = """
import time
import pytest
pytestmark = pytest.mark.gpu

def test_passes(): pass

def test_fails(): assert False, "first line\\nsecond line"

def test_is_skipped(): pytest.skip("not here")

@pytest.fixture
def broken(): raise ValueError("a broken fixture")

def test_breaks(broken): pass

def test_hangs(): time.sleep({seconds})
"""


def outcomes_of(directory: Path, seconds: float, limit: float) -> Section:
    """The tests above under the command of the step."""
    written = directory / "outcomes.jsonl"
    written.touch()
    (directory / "test_it.py").write_text(TESTS.format(seconds=seconds), encoding="utf-8")
    (directory / "test_lost.py").write_text("import no_such_module\n", encoding="utf-8")
    command = suite.command_for([str(directory / "test_lost.py"), str(directory / "test_it.py")], 0)
    with (directory / "log.txt").open("w") as log:
        ended = suite.run_tests(command, log.fileno(), limit, written)
    return suite.section_of(suite.records(written.read_text(encoding="utf-8")), ended, [])


@pytest.mark.parametrize(("seconds", "limit"), [(0, 60), (60, 2.5)])
def test_failures_are_named_even_where_the_run_is_cut_off(tmp_path: Path, seconds: float, limit: float) -> None:
    section = outcomes_of(tmp_path, seconds, limit)
    assert section.is_cut == (seconds > limit)
    passed = {"passed": 1 if section.is_cut else 2}
    assert section.data["outcomes"] == {"failed": 1, "skipped": 1, "error": 2} | passed
    rows = {row[0].strip("`").rpartition("/")[2]: row[1:] for row in section.tables[0].rows}
    assert rows["test_it.py::test_fails"] == ["failed", "`AssertionError: first line`"]
    assert rows["test_it.py::test_breaks"] == ["error", "`ValueError: a broken fixture`"]
    assert "no_such_module" in rows["test_lost.py"][1]
    assert section.measured[0].value == 3


def test_a_run_of_tests_that_breaks_as_a_whole_is_no_success() -> None:
    (measured,) = suite.section_of([{"test": "a", "outcome": "passed", "reason": ""}], "exit code 3", []).measured
    assert measured.value == 1
    (cut,) = suite.section_of([], "cut off after 3 s", []).measured
    assert cut.value is None
    assert suite.records('{"test": "a"}\n{"test": "b", "outc') == [{"test": "a"}]
    assert "tests/kernels/test_triton_attention.py" in suite.marked_files()


def test_synthetic_prompts_share_as_a_judges_do() -> None:
    """Would catch criteria before the responses, or pairs that change with their number."""
    for name in ("2", "22", "options 270+30"):
        job = workload(name, 3, vocab_size=1000)
        assert len(job.prompts) == 3 * prompts_a_pair(name)
        assert job.first(2).prompts == workload(name, 2, vocab_size=1000).prompts
    one, many = (unique_trie(workload(name, 1, 1000).prompts).num_rows for name in ("2", "22"))
    assert many - one == 2 * (sum((16, 15, 18, 15, 16, 18, 16, 16, 12, 16, 15)) + 10 * 10)
    options = workload("options 120+180", 2, 1000)
    assert {len(prompt.ids) for prompt in options.prompts} == {300}
    assert unique_trie(options.prompts).num_rows == 2 * (120 + OPTIONS * 180)
    lengths = [len(prompt.ids) for prompt in workload("2", 200, 1000).prompts]
    assert 350 < np.mean(lengths) < 550  # those of LLMBar: 437


@pytest.mark.parametrize("path", FULL.paths)
@pytest.mark.parametrize("name", attention.WORKLOADS)
def test_forests_have_paths_of_the_length_asked_for(name: str, path: int) -> None:
    forest = attention.plant(name, path, FULL.rows)
    depths = forest.trie.depth[forest.trie.final_row]
    assert set(depths.tolist()) == {path - 1}
    assert len(depths) == forest.prompts
    assert 0.45 * FULL.rows < forest.trie.num_rows <= 1.1 * FULL.rows


def test_random_tensors_depend_on_the_name_alone() -> None:
    config = REHEARSAL.shapes["Qwen3-0.6B"]
    one, other = (RandomSource(config, CPU, torch.float32) for _ in range(2))
    other.tensor("model.norm.weight", (48,))
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one.tensor(name, (64, 48)), other.tensor(name, (64, 48)))
    assert not torch.equal(one.tensor(name, (64, 48)), one.tensor("model.layers.1.mlp.up_proj.weight", (64, 48)))
    assert one.tensor("model.norm.weight", (48,)).mean() == pytest.approx(1, abs=0.1)


def test_padded_batches_end_at_the_token_limit() -> None:
    """And answer the same: a batch of one prompt is allowed, however long."""
    config = REHEARSAL.shapes["Llama-3-8B"]
    model = build_transformers(config, RandomSource(config, CPU, torch.float32), CPU, torch.float32)
    prompts = workload("2", 4, config.vocab_size, divisor=10).prompts
    whole, cut = PaddedPeer(model, 8).score(prompts), PaddedPeer(model, 8, batch_tokens=90).score(prompts)
    np.testing.assert_allclose(whole, cut, atol=1e-5)
    assert PaddedPeer(model, 8, batch_tokens=90)._batch([10, 20, 30, 40]) == 3
    assert PaddedPeer(model, 8, batch_tokens=5)._batch([10, 20]) == 1


def test_calls_come_as_the_windows_of_a_labelling_run() -> None:
    """Every prompt once, in order, in windows that grow as those of `preftree label` do."""
    job = workload("22", 40, vocab_size=500, divisor=4)
    calls = calls_of(job, budget=8000)
    assert [ids for call in calls for ids in call[0]] == job.ids
    sizes = [len(ids) for ids, _ in calls]
    assert sizes[0] < sizes[1] < sizes[2]
    assert FIRST_WINDOW == pipeline.FIRST_WINDOW
