"""What every number of a run must be read with."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from benchmarks.gpu.device import Device
from benchmarks.gpu.report import ROOT
from benchmarks.machine import Machine

PACKAGES = ("benchmarks", "engine", "kernels", "labeling")


def facts(device: Device) -> dict[str, str]:
    """Device, versions, commit. A checkout without git is known by the hash of its sources."""
    machine = Machine.find()
    versions = ", ".join(f"{name} {version}" for name, version in (machine.versions | _triton()).items())
    return device.facts() | {
        "host": f"{machine.cpu}, {machine.cpus} CPUs",
        "versions": f"Python {machine.python}, {versions}",
        "commit": f"{machine.commit}, sources {source_hash()}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _triton() -> dict[str, str]:
    try:
        import triton
    except ImportError:
        return {}
    return {"triton": str(triton.__version__)}


def source_hash() -> str:
    """The first 12 hexadecimal digits of a sha256 over all Python sources but the tests'."""
    total = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        total.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:12]
