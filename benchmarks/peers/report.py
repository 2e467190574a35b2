"""Results as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.flops import unique_trie
from benchmarks.machine import Machine, Rates
from benchmarks.peers.accuracy import Accuracy
from benchmarks.peers.results import Result
from benchmarks.tables import gflops
from benchmarks.workloads import Workload

_HEADER = (
    "contestant",
    "prompts/s",
    "x bf16",
    "x own type",
    "of matrix rate",
    "of layer rate",
    "peak MB",
    "largest",
    "mean",
    "margin",
    "prompts",
    "pairs",
    "setting",
)
_EXPLAINED = (
    "x bf16, x own type: how many times as long as preftree in bfloat16, and in the contestant's type.",
    "of matrix rate, of layer rate: model FLOPs per second by what matrix products of the type in use reached.",
    "largest, mean, margin: errors against preftree in float32, in nats; prompts, pairs: share whose verdict flips.",
)


def header(machine: Machine, rates: Mapping[str, Rates], facts: Mapping[str, Mapping[str, Any]]) -> str:
    """What it was measured on, then the rates by type. facts: what contestants say of themselves, by name."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    limit = f", ONEDNN_MAX_CPU_ISA={machine.isa_limit}" if machine.isa_limit else ""
    lines = [
        f"machine    {machine.cpu}, {machine.cpus} CPUs, {machine.torch_threads} torch threads",
        f"           {', '.join(machine.instructions)}{limit}",
        f"versions   Python {machine.python}, {versions}, commit {machine.commit}",
    ]
    lines += [f"           {name}: {_facts(found)}" for name, found in facts.items()]
    for dtype, rate in rates.items():
        layer = f"widest layer {gflops(rate.layer)} ({rate.layer_call})"
        lines.append(f"{dtype:<10} 2048^3 {gflops(rate.matrix)} · {layer}")
    return "\n".join(lines)


def table(workload: Workload, found: Sequence[Result], rounds: int) -> str:
    """One workload, a contestant a line."""
    counts = f"{workload.num_pairs} pairs, {len(workload.prompts)} prompts, {workload.prompt_tokens:,} tokens"
    unique = unique_trie(workload.prompts).num_rows
    title = f"workload {workload.name}: {counts}, {unique:,} unique, medians of {rounds} rounds"
    rows = [_HEADER, *(_row(result, workload) for result in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join((title, *(f"  {line}" for line in lines), *(f"  {line}" for line in _EXPLAINED)))


def _row(result: Result, workload: Workload) -> tuple[str, ...]:
    on = "" if result.pairs == workload.num_pairs else f" (first {result.pairs} pairs)"
    return (
        result.name,
        f"{result.prompts_per_second:.2f}",
        f"{result.ratio:.2f}",
        "-" if result.own_ratio is None else f"{result.own_ratio:.2f}",
        f"{result.share_of_matrix_rate:.1%} {result.rate}",
        f"{result.share_of_layer_rate:.1%}",
        "-" if result.peak_bytes is None else f"{result.peak_bytes / 1e6:,.0f}",
        *_errors(result.accuracy),
        result.setting + on,
    )


def _errors(found: Accuracy | None) -> tuple[str, ...]:
    if found is None:
        return ("not available", "", "", "", "")
    nats = (found.max_nats, found.mean_nats, found.mean_margin_nats)
    return (*(f"{value:.2g}" for value in nats), f"{found.flipped_prompts:.1%}", f"{found.flipped_pairs:.1%}")


def _facts(found: Mapping[str, Any]) -> str:
    options = ", ".join(f"{name} {value}" for name, value in found.get("options", {}).items())
    return f"{found.get('version', '')}" + (f", {options}" if options else "")
