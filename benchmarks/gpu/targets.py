"""What is wanted of a GPU, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """wanted: the least that is good enough, or the most where `at_most`."""

    text: str
    wanted: float
    at_most: bool = False


@dataclass(frozen=True)
class Measured:
    """target: a key of TARGETS. on: the model, workload or kernel. value: None where nothing could be measured."""

    target: str
    on: str
    value: float | None


TARGETS = {
    "tests": Target("gpu tests that failed or broke", 0, at_most=True),
    "element-wise": Target("element-wise kernels, share of the copy bandwidth", 0.8),
    "attention": Target("tree attention, share of dense flash attention's rate", 0.6),
    "matrix": Target("unique-token FLOPs of an 8B model, share of the matrix rate", 0.65),
    "prompts": Target("prompts/s of a 0.6B model", 6600),
    "published": Target("prompts/s of a 0.6B model, more than anybody published for an H100", 2200),
    "decode": Target("decode steps of an 8B model with 64 sequences, share of the memory's limit", 0.6),
    "padded": Target("times as fast as transformers, padded batches", 6),
    "prefix": Target("times as fast as transformers, prefix cache", 2),
    "agreement": Target("largest difference from transformers, nats", 0.5, at_most=True),
    "idle": Target("time that the GPU is idle", 0.05, at_most=True),
    "bits": Target("labels whose bits differ", 0, at_most=True),
}


def verdict(target: Target, value: float | None) -> str:
    """ "reached", or by how much of what was wanted it was missed."""
    if value is None or not math.isfinite(value):
        return "not measured"
    gap = value - target.wanted if target.at_most else target.wanted - value
    if gap <= 0:
        return "reached"
    return f"missed by {gap / target.wanted:.0%}" if target.wanted else f"missed by {value:g}"


def summary_rows(found: Iterable[Measured]) -> list[list[str]]:
    """One row a target: what is wanted, how many measurements reach it, and the worst of them."""
    rows = []
    for key, items in _by_target(found).items():
        target = TARGETS[key]
        known = [item for item in items if _is_known(item.value)]
        reached = sum(verdict(target, item.value) == "reached" for item in known)
        worst = sorted(known, key=lambda item: item.value or 0.0, reverse=target.at_most)[:1]
        told = [cell for item in worst for cell in (f"{item.value:.4g}", item.on, verdict(target, item.value))]
        rows.append([target.text, _wanted(target), f"{reached} of {len(items)}", *(told or ["-", "-", "not measured"])])
    return rows


def verdict_rows(found: Iterable[Measured]) -> list[list[str]]:
    """One row a measurement, in the order of TARGETS."""
    rows = []
    for key, items in _by_target(found).items():
        target = TARGETS[key]
        for item in items:
            value = f"{item.value:.4g}" if _is_known(item.value) else "-"
            rows.append([target.text, item.on, value, _wanted(target), verdict(target, item.value)])
    return rows


def _by_target(found: Iterable[Measured]) -> dict[str, list[Measured]]:
    by_target: dict[str, list[Measured]] = {key: [] for key in TARGETS}
    for item in found:
        by_target[item.target].append(item)
    return by_target


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _wanted(target: Target) -> str:
    return f"{'at most' if target.at_most else 'at least'} {target.wanted:g}"
