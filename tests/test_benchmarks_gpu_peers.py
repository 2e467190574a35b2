"""What the GPU benchmark compares with and watches: each may be missing on a machine, and costs one line there."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu import attention, clocks, ncu, packed, smoke, tuning
from benchmarks.gpu.clocks import ClockSampler, open_clocks
from benchmarks.gpu.device import Rehearsal
from benchmarks.gpu.models import Models
from benchmarks.gpu.oracle import Oracle
from benchmarks.gpu.packed import FlashAttention3, NoPeerError, PackedInputs, Varlen
from benchmarks.gpu.pool import LATE, run_all
from benchmarks.gpu.report import Report, Section
from benchmarks.gpu.session import Ceilings, NotHereError, Session
from benchmarks.gpu.sizes import LLAMA, REHEARSAL


class NoRehearsal(Rehearsal):
    """The CPU where a GPU is expected."""

    def __init__(self) -> None:
        super().__init__()
        self.is_rehearsal = False


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """In one thread: tiny products wait longer for other threads than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    device = NoRehearsal()
    report = Report(tmp_path, is_rehearsal=False)
    rates = Ceilings(1e9, 1e9, 1e9, 1e9)
    yield Session(device, REHEARSAL, report, Models(device, REHEARSAL), time.time() + 60, rates)
    torch.set_num_threads(threads)


def measured_values(section: Section, start: str) -> list[float]:
    return [item.value for item in section.measured if item.on.startswith(start) and item.value is not None]


def test_the_smoke_step_sees_an_engine_that_computes_something_else(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch an oracle that agrees with whatever it is compared with."""
    (right,) = measured_values(smoke.run(session), f"small {LLAMA}")[:1]
    monkeypatch.setattr(Oracle, "_rotated", lambda self, x: x)
    (wrong,) = measured_values(smoke.run(session), f"small {LLAMA}")[:1]
    assert right < 1 < wrong


def test_the_smoke_step_sees_rows_that_depend_on_others(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    ops = session.device.ops
    real = ops.linear

    def placed(x: torch.Tensor, weight: Any, *rest: Any) -> torch.Tensor:
        out: torch.Tensor = real(x, weight, *rest)
        out[7] += 1
        return out

    assert sum(different for _, _, different in smoke.row_differences(session)) == 0
    monkeypatch.setattr(ops, "linear", placed)
    assert all(different > 0 for _, _, different in smoke.row_differences(session))


def test_tasks_that_fail_hang_or_crash_are_told() -> None:
    """The functions come from modules that start fast in a process of their own."""
    results, problems = run_all(int, ["1", "two", "3"], 1, 60)
    assert results == {"1": 1, "3": 3}
    assert problems["two"].startswith("ValueError: invalid literal")
    started = time.perf_counter()
    results_late, problems_late = run_all(time.sleep, [0.0, 600.0], 2, 3)
    assert (results_late, problems_late) == ({0.0: None}, {600.0: LATE})
    assert time.perf_counter() - started < 30
    _, crashed = run_all(os._exit, [3], 1, 60)
    assert crashed[3].startswith("BrokenProcessPool")


class FakeNvml(SimpleNamespace):
    """pynvml on a GPU without a power sensor, whose SM clock falls."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, fails_after: int = 1000) -> None:
        super().__init__()
        self.read, self.fails_after = 0, fails_after

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        raise self.NVMLError("not supported")

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        return 40

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        if kind == self.NVML_CLOCK_MEM:
            return 2619
        self.read += 1
        if self.read > self.fails_after:
            raise RuntimeError("the driver went away")
        return 1980 - 10 * self.read


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.time() + 20
    while not condition():
        assert time.time() < ends
        time.sleep(0.005)


def test_clocks_are_sampled_while_a_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(clocks, "PERIOD", 0.01)
    sampler = open_clocks(NoRehearsal())
    assert sampler.source == "pynvml"
    before = nvml.read
    with sampler.during() as found:
        wait_for(lambda: nvml.read >= before + 3)
    low, median = found["sm"]
    assert low == 1980 - 10 * nvml.read
    assert low < median <= 1980 - 10 * (before + 1)
    assert (found["memory"], found["temperature"]) == ([2619, 2619], [40, 40])
    assert "power" not in found


def test_clocks_that_can_no_longer_be_read_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(fails_after=3)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(clocks, "PERIOD", 0.01)
    sampler = open_clocks(NoRehearsal())
    with sampler.during() as found:
        wait_for(lambda: "until it failed" in sampler.source)
    assert found["sm"][0] == 1950
    with sampler.during() as nothing:
        pass
    assert nothing == {}


def on_the_path(directory: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that prints `text`, and nothing else on the PATH."""
    program = directory / "bin" / name
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nprint({text!r})\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def test_nvidia_smi_serves_without_pynvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    on_the_path(tmp_path, "nvidia-smi", "1755, 2619, [N/A], 51", monkeypatch)
    sampler = open_clocks(NoRehearsal())
    with sampler.during() as found:
        wait_for(lambda: sampler.samples > 0)
    assert (sampler.source, found) == (
        "nvidia-smi",
        {"sm": [1755, 1755], "memory": [2619, 2619], "temperature": [51, 51]},
    )


def test_unreadable_clocks_are_unknown_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    without = open_clocks(NoRehearsal()).source
    assert without.startswith("unknown: pynvml: ModuleNotFoundError")
    assert "nvidia-smi: FileNotFoundError" in without
    on_the_path(tmp_path, "nvidia-smi", "[N/A], [N/A], [N/A], [N/A]", monkeypatch)
    silent = open_clocks(NoRehearsal()).source
    assert "nvidia-smi: ValueError: the GPU reports no clocks" in silent
    assert len(silent.splitlines()) == 1
    with ClockSampler(None, silent).during() as found:
        pass
    assert found == {}


NCU_OUTPUT = """==PROF== Connected to process 71
==PROF== Profiling "tree_attention_kernel" - 0: 0%....50%....100% - 40 passes
"ID","Process ID","Kernel Name","gpu__time_duration.sum","sm__throughput.avg.pct_of_peak_sustained_elapsed","x__y.sum",\
"sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",\
"sm__inst_executed_pipe_tensor_op_imma.avg.pct_of_peak_sustained_active",\
"sm__pipe_tensor_cycles_active.max.pct_of_peak_sustained_active"
"","","","us","%","","%","%","%"
"0","71","tree_attention_kernel","512.3","61.9","7","37.9","0","38.8"
"""


def test_metrics_of_nsight_compute(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_path(tmp_path, "ncu", NCU_OUTPUT, monkeypatch)
    section = ncu.run(session, LLAMA, 100)
    assert section.tables[0].rows == [
        ["gpu__time_duration.sum", "us", "512.3"],
        ["sm__throughput.avg.pct_of_peak_sustained_elapsed", "%", "61.9"],
        ["sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active", "%", "37.9"],
    ]
    assert section.data["x__y.sum"] == "7"


def test_nsight_compute_that_may_not_count_is_one_line(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotHereError, match="not on the PATH"):
        ncu.run(session, LLAMA, 100)
    refusal = "==PROF== Connected\n==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n"
    on_the_path(tmp_path, "ncu", refusal, monkeypatch)
    with pytest.raises(NotHereError, match=r"ncu measured nothing: ==ERROR== ERR_NVGPUCTRPERM") as caught:
        ncu.run(session, LLAMA, 100)
    assert len(str(caught.value).splitlines()) == 1


def test_the_tuner_is_told_how_long_and_its_refusal_is_one_line(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen
    code = "import sys; print(sys.argv[1:]); print('  skipped A: spills'); print('TABLE = 1'); sys.exit({code})"

    def stand_in(exit_code: int) -> None:
        def popen(command: list[str], **named: Any) -> subprocess.Popen[bytes]:
            return real([command[0], "-c", code.format(code=exit_code), *command[2:]], **named)

        monkeypatch.setattr(subprocess, "Popen", popen)

    stand_in(0)
    section = tuning.run(session)
    assert section.lines[-1] == "`TABLE = 1`"
    assert not any("skipped" in line for line in section.lines)
    assert "'--minutes', '0.7" in section.lines[1]
    assert "skipped" in (tmp_path / tuning.LOG_NAME).read_text(encoding="utf-8")
    stand_in(tuning.REFUSED)
    with pytest.raises(NotHereError, match="TABLE = 1"):
        tuning.run(session)
    stand_in(5)
    with pytest.raises(RuntimeError, match="ended with code 5"):
        tuning.run(session)


def inputs(lengths: tuple[int, ...] = (5, 3)) -> PackedInputs:
    return PackedInputs.random(Rehearsal(), 4, 2, 8, lengths)


def test_torchs_varlen_attention_is_called_as_its_signature_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either of the two ways in. Neither runs on a CPU, so arguments are bound and not computed with."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    real, bound = inspect.signature(varlen.varlen_attn), []

    def public(*arguments: Any, **named: Any) -> torch.Tensor:
        bound.append(real.bind(*arguments, **named))
        return torch.zeros(1)

    if {"window_size", "enable_gqa"} <= real.parameters.keys():
        public.__signature__ = real  # type: ignore[attr-defined]
        monkeypatch.setattr(varlen, "varlen_attn", public)
        Varlen().attend(inputs())
        assert bound[0].arguments["window_size"] == (-1, 0)  # causal
    monkeypatch.setattr(packed, "_public_varlen", lambda: None)
    with pytest.raises(NotImplementedError, match="_flash_attention_forward"):
        Varlen().attend(inputs())  # it gets past the arguments
    with pytest.raises(NoPeerError, match="varlen attention does not run here"):
        Varlen().checked(Rehearsal(), 4, 2, 8)


def test_a_file_that_is_no_library_is_one_line(session: Session, tmp_path: Path) -> None:
    library = tmp_path / "fa3.so"
    for text in (None, "no library"):
        if text is not None:
            library.write_text(text, encoding="utf-8")
        session.fa3 = library
        section = attention.run(session, LLAMA, 100)
        (line,) = [line for line in section.lines if "fa3.so" in line]
        assert f"{library} cannot be loaded" in line
        assert len(line.splitlines()) == 1
        assert len(section.tables[0].rows) == len(attention.WORKLOADS)


SCHEMA = "(Tensor q, Tensor k, Tensor v, Tensor? out, Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, int? max_seqlen_q, "
SCHEMA += "int? max_seqlen_k, float? softmax_scale, bool is_causal, int window_size_left, int num_splits=7, "
SCHEMA += "Tensor? s_aux=None{more}) -> (Tensor, Tensor)"


@pytest.fixture
def fa3_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Registers an operation in the place of a library's; loading does nothing."""
    kept: list[torch.library.Library] = []

    def register(is_right: bool = True, more: str = "") -> None:
        def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: Any, starts: Any, *rest: Any) -> Any:
            assert rest[4] is True
            found = PackedInputs(q, k, v, starts, rest[1])
            return packed.reference(found) if is_right else q.clone(), torch.zeros(1)

        library = torch.library.Library("_vllm_fa3_C", "FRAGMENT")
        library.define("fwd" + SCHEMA.format(more=more))
        library.impl("fwd", forward, "CPU")
        kept.append(library)

    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    yield register
    for library in kept:
        library._destroy()


def test_flash_attention_3_is_checked_and_timed(session: Session, fa3_library: Callable[..., None]) -> None:
    fa3_library()
    session.fa3 = Path("fa3.so")
    unshared = attention.run(session, LLAMA, 100).tables[1]
    assert unshared.header[-1] == "FlashAttention-3"
    assert all(float(row[-1].replace(",", "")) > 0 for row in unshared.rows)


def test_flash_attention_3_that_computes_something_else_is_left_out(
    session: Session, fa3_library: Callable[..., None]
) -> None:
    fa3_library(is_right=False)
    session.fa3 = Path("fa3.so")
    section = attention.run(session, LLAMA, 100)
    assert any("FlashAttention-3 differs from scaled_dot_product_attention" in line for line in section.lines)
    assert "FlashAttention-3" not in section.tables[1].header


def test_flash_attention_3_with_an_unknown_argument(fa3_library: Callable[..., None]) -> None:
    fa3_library(more=", *, int chunk_of_moon")
    with pytest.raises(NoPeerError, match="chunk_of_moon"):
        FlashAttention3(Path("fa3.so")).attend(inputs())


def test_a_library_without_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "load_library", lambda path: None)
    monkeypatch.setattr(packed, "FA3_NAMESPACE", "_no_such_namespace")
    with pytest.raises(NoPeerError, match="has no operation _no_such_namespace::fwd"):
        FlashAttention3(Path("fa3.so"))


def test_packed_prompts_do_not_see_each_other() -> None:
    """The yardstick of every packed attention."""
    both = inputs((5, 3))
    alone = replace(both, q=both.q[5:], k=both.k[5:], v=both.v[5:], starts=torch.tensor([0, 3]), longest=3)
    torch.testing.assert_close(packed.reference(both)[5:], packed.reference(alone))
