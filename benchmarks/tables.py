"""Results as text for people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.machine import Machine, Rates
from benchmarks.rounds import WorkloadResult


def header(machine: Machine, rates: Rates) -> str:
    """Roofline first, then what it was measured on."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    layer = f"widest layer {gflops(rates.layer)} ({rates.layer_call})"
    return "\n".join(
        (
            f"roofline   2048^3 torch.mm {gflops(rates.matrix)} · {layer}",
            f"machine    {machine.cpu}, {machine.cpus} CPUs, {machine.torch_threads} torch threads, float32",
            f"versions   Python {machine.python}, {versions}, commit {machine.commit}",
        )
    )


def table(result: WorkloadResult) -> str:
    """One workload: the engine's rates and shares, then each peer's."""
    workload, seconds = result.workload, result.median_seconds
    matrix = statistics.median(rates.matrix for rates in result.rates)
    layer = statistics.median(rates.layer for rates in result.rates)
    tokens = workload.prompt_tokens
    rows = [
        ("pairs/s", f"{workload.num_pairs / seconds:.3f}"),
        ("prompts/s", f"{len(workload.prompts) / seconds:.2f}"),
        ("prompt tokens/s", f"{tokens / seconds:,.0f}"),
        ("unique tokens/s", f"{result.unique_tokens / seconds:,.0f}"),
        (
            "tokens",
            f"{tokens:,} in prompts, {result.unique_tokens:,} unique, {result.rows:,} run, {result.batches} batches",
        ),
        ("model rate", gflops(result.flops.total / seconds)),
        ("of the 2048^3 rate", f"{result.share_of_matrix_rate:.1%} of {gflops(matrix)}"),
        ("of the layer rate", f"{result.share_of_layer_rate:.1%} of {gflops(layer)}"),
        ("host", f"planning {result.planning_share:.2%} of scoring; text to ids {workload.encode_seconds:.2f} s more"),
    ]
    if result.extra_bytes is not None:
        rows.append(
            ("peak above weights", f"{result.extra_bytes / 1e6:.0f} MB resident, sampled in a process of its own")
        )
    for name, peer in result.peers.items():
        on = "" if peer.pairs == workload.num_pairs else f", both on the first {peer.pairs} pairs only"
        low, high = min(peer.ratios), max(peer.ratios)
        text = f"engine {peer.ratio:.2f}x ({low:.2f}-{high:.2f}) its {peer.pairs_per_second:.3f} pairs/s{on}"
        rows.append((f"vs {name}", f"{text}; {peer.setting}; within {peer.nats:.0e} nats"))
    counts = f"{workload.num_pairs} pairs, {len(workload.prompts)} prompts"
    title = f"workload {workload.name}: {counts}, medians of {len(result.seconds)} rounds"
    return "\n".join((title, *(f"  {name:<20} {value}" for name, value in rows)))


def parts_table(name: str, parts: Mapping[str, float]) -> str:
    """Shares of the engine's time by part."""
    total = sum(parts.values())
    shares = ", ".join(f"{part} {seconds / total:.1%} ({seconds:.2f} s)" for part, seconds in parts.items())
    return f"profile of workload {name}: {shares}"


def gflops(rate: float) -> str:
    return f"{rate / 1e9:.1f} GFLOP/s"
