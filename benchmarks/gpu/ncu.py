"""One launch of tree attention under Nsight Compute, in a process of its own.

ncu ... python -m benchmarks.gpu.ncu MODEL PATH
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.gpu.report import ROOT, Section, Table
from benchmarks.gpu.session import NotHereError, Session

KERNEL = "tree_attention_kernel"
SECTIONS = (
    *("SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "LaunchStats", "Occupancy"),
    *("SchedulerStats", "WarpStateStats"),
)
LIMIT_SECONDS = 60.0
# Metrics worth a row, by regular expressions, most telling first. The names are Nsight Compute's.
TOLD = (
    r"gpu__time_duration\.sum",
    r"sm__throughput\.avg\.pct_of_peak_sustained_elapsed",
    r"(gpu__)?dram__?throughput\.avg\.pct_of_peak_sustained_elapsed",
    r"(l1tex|lts)__throughput\.avg\.pct.*",
    r"sm__pipe_tensor_cycles_active\.avg\.pct_of_peak_sustained_active",
    r"sm__warps_active\.avg\.pct_of_peak_sustained_active",
    r"smsp__issue_active\.avg\.pct.*",
    r"launch__(registers_per_thread|shared_mem_per_block_dynamic|grid_size|block_size)",
    r"smsp__average_warps_issue_stalled_(long_scoreboard|wait|barrier|math_pipe_throttle|gmma|short_scoreboard)_per_.*",
)
_WORKLOAD, _ROWS = "22 prompts", 16384


def run(session: Session, shape: str, path: int) -> Section:
    """Duration, throughputs and stalls of the kernel. Raises NotHereError where ncu is missing or may not count."""
    if session.device.is_rehearsal:
        raise NotHereError("Nsight Compute needs a GPU")
    program = shutil.which("ncu")
    if program is None:
        raise NotHereError("ncu (Nsight Compute) is not on the PATH")
    session.device.release()
    command = [program, "--clock-control", "none", "-k", KERNEL, "-c", "1", "--csv", "--page", "raw"]
    command += [item for name in SECTIONS for item in ("--section", name)]
    command += [sys.executable, "-m", "benchmarks.gpu.ncu", shape, str(path)]
    limit = min(LIMIT_SECONDS, max(1.0, session.seconds_left))
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return Section(lines=[f"ncu was not finished after {limit:.0f} s"], is_cut=True)
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    metrics = parse(lines)
    if not metrics:
        raise NotHereError(f"ncu measured nothing: {complaint(lines)}")
    table = Table(f"{KERNEL}, {shape}, {_WORKLOAD}, paths of {path:,}", ["metric", "unit", "value"])
    for name in told(metrics):
        unit, value = metrics[name]
        table.add(name, unit, value)
    return Section([table], data={name: value for name, (_, value) in metrics.items()})


def parse(lines: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Unit and value of every metric in the output of `--csv --page raw`: a header, units, and one row a launch."""
    rows = list(csv.reader(line for line in lines if line.startswith('"')))
    header = next((place for place, row in enumerate(rows) if "Kernel Name" in row), None)
    if header is None or len(rows) < header + 3:
        return {}
    names, units, values = rows[header : header + 3]
    return {name: (unit, value) for name, unit, value in zip(names, units, values, strict=False) if "__" in name}


def told(metrics: Mapping[str, tuple[str, str]]) -> list[str]:
    """Names worth a row, in the order of TOLD: not those of units that did nothing."""
    names = list(metrics)
    found = (name for pattern in TOLD for name in names if re.fullmatch(pattern, name) and metrics[name][1] != "0")
    return list(dict.fromkeys(found))


def complaint(lines: Sequence[str]) -> str:
    """The line in which ncu says what is wrong, else its last one."""
    marked = [line for line in lines if "ERR_" in line or line.startswith("==ERROR==")]
    return next(iter(marked or [line for line in reversed(lines) if line.strip()]), "no output")[:300]


def main(argv: Sequence[str]) -> None:
    """What is profiled: tree attention on the prompts of the attention step, launched once."""
    from benchmarks.gpu.attention import plant, tree_call
    from benchmarks.gpu.device import Gpu
    from benchmarks.gpu.sizes import FULL

    shape, path = argv[0], int(argv[1])
    device = Gpu()
    tree_call(device, FULL.shapes[shape], plant(_WORKLOAD, path, _ROWS))()
    device.synchronize()


if __name__ == "__main__":
    main(sys.argv[1:])
