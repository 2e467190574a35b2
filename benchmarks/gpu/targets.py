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
    """One figure that a target is held against.

    Attributes:
        target: A key of TARGETS.
        on: The model, workload or kernel.
        value: None where nothing could be measured.
        roofline: The share of the rate that the device allows, where the figure has one.
    """

    target: str
    on: str
    value: float | None
    roofline: float | None = None


TARGETS = {
    "smoke": Target("small models: error over what is allowed against float64", 1, at_most=True),
    "bits": Target("labels or rows whose bits differ", 0, at_most=True),
    "prompts 270+30": Target("prompts/s of a 0.6B model, 270 shared and 30 own tokens", 6600),
    "prompts 120+180": Target("prompts/s of a 0.6B model, 120 shared and 180 own tokens", 2200),
    "matrix": Target("unique-token FLOPs of an 8B model, share of the matrix rate", 0.65),
    "fp8": Target("unique tokens/s of an 8B model in fp8", 65_000),
    "attention": Target("tree attention, share of dense flash attention's rate at equal useful work", 0.6),
    "padded": Target("times as fast as transformers, padded batches", 6),
    "prefix": Target("times as fast as transformers, prefix cache", 2),
    "agreement": Target("largest difference from transformers, nats", 0.5, at_most=True),
    "idle": Target("time that the GPU is idle", 0.05, at_most=True),
    "element-wise": Target("element-wise kernels, share of the copy bandwidth", 0.8),
    "decode": Target("decode steps of an 8B model with 64 sequences, share of the memory's limit", 0.6),
    "streamed": Target("an 8B model with streamed layers, share of the speed with resident ones", 0.9),
    "tests": Target("gpu tests that failed or broke", 0, at_most=True),
}
# Columns of `summary_rows` and `verdict_rows`.
SUMMARY_HEADER = ["target", "goal", "figure", "measured on", "verdict", "share of the roofline", "reached"]
VERDICT_HEADER = ["target", "measured on", "figure", "goal", "verdict", "share of the roofline"]
NOT_MEASURED = "not measured"


def verdict(target: Target, value: float | None) -> str:
    """ "reached", or by how much of what was wanted it was missed."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    gap = value - target.wanted if target.at_most else target.wanted - value
    if gap <= 0:
        return "reached"
    return f"missed by {gap / target.wanted:.0%}" if target.wanted else f"missed by {value:g}"


def summary_rows(found: Iterable[Measured]) -> list[list[str]]:
    """One row a target: its goal, the worst figure, and how many figures reach it."""
    rows = []
    for key, items in _by_target(found).items():
        target, worst = TARGETS[key], _worst(key, items)
        reached = sum(verdict(target, item.value) == "reached" for item in items)
        if worst is None:
            told = ["-", "-", NOT_MEASURED, "-"]
        else:
            told = [f"{worst.value:.4g}", worst.on, verdict(target, worst.value), _share(worst.roofline)]
        rows.append([target.text, _goal(target), *told, f"{reached} of {len(items)}"])
    return rows


def verdict_row(item: Measured) -> list[str]:
    """One figure."""
    target = TARGETS[item.target]
    value = f"{item.value:.4g}" if _is_known(item.value) else "-"
    return [target.text, item.on, value, _goal(target), verdict(target, item.value), _share(item.roofline)]


def below(found: Iterable[Measured]) -> list[str]:
    """Targets that a figure misses, in one line each."""
    by_target = _by_target(found)
    worst = {key: item for key, items in by_target.items() if (item := _worst(key, items)) is not None}
    return [
        f"{TARGETS[key].text}: {item.value:.4g}, wanted {_goal(TARGETS[key])} ({item.on})"
        for key, item in worst.items()
        if verdict(TARGETS[key], item.value) != "reached"
    ]


def _worst(key: str, items: Iterable[Measured]) -> Measured | None:
    known = [item for item in items if _is_known(item.value)]
    return min(known, key=lambda item: (item.value or 0.0) * (-1 if TARGETS[key].at_most else 1), default=None)


def _by_target(found: Iterable[Measured]) -> dict[str, list[Measured]]:
    by_target: dict[str, list[Measured]] = {key: [] for key in TARGETS}
    for item in found:
        by_target[item.target].append(item)
    return by_target


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _goal(target: Target) -> str:
    return f"{'at most' if target.at_most else 'at least'} {target.wanted:g}"


def _share(share: float | None) -> str:
    return f"{share:.1%}" if share is not None and math.isfinite(share) else "-"
