"""The evidence run for GPUs, rehearsed as a whole on the CPU; and its kernels, launched on nothing."""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import divided, plan, suite
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.device import Rehearsal
from benchmarks.gpu.report import Report
from benchmarks.gpu.session import NotHereError
from benchmarks.gpu.sizes import REHEARSAL
from benchmarks.gpu.targets import TARGETS
from tests.processes import printed, run_python

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


@needs_no_gpu
def test_without_a_gpu_one_line_says_what_to_do(tmp_path: Path) -> None:
    result = run_python("-m", "benchmarks.gpu", "--out", tmp_path / "out")
    (line,) = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (1, "")
    assert line.startswith("benchmarks.gpu: torch sees no CUDA device")
    assert "--rehearse" in line


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
