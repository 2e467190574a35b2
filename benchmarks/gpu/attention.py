"""Tree attention on paths of several lengths, against dense flash attention.

Two comparisons. The rate: one plain causal sequence that takes as many operations. The work: the same prompts
without sharing, every one computed from its first token on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.gpu.dense import DenseAttention
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured
from engine.planning.plan import build_plan
from engine.planning.trie import TokenTrie

WORKLOADS = ("one branch", "2 prompts", "22 prompts")
PREAMBLE, CRITERION, ENDING, CRITERIA = 150, 20, 10, 11
# Of what preamble, criterion and ending leave of a prompt.
INSTRUCTION_SHARE = 0.2
_SEED = 7


@dataclass(frozen=True)
class Forest:
    """Prompts of one length and their trie. keys: the sum over all rows of the keys that a row attends to."""

    prompts: int
    trie: TokenTrie

    @property
    def keys(self) -> int:
        return int((self.trie.depth + 1).sum())


def run(session: Session, shape: str, path: int) -> Section:
    """Everything on paths of `path` tokens, as many of them as make the usual number of rows."""
    config, device = session.sizes.shapes[shape], session.device
    dense = DenseAttention(device, config.num_heads, config.num_kv_heads, config.head_dim, session.sizes.window)
    heads = f"{config.num_heads} heads, {config.num_kv_heads} of K/V, size {config.head_dim}"
    header = ["prompts", "rows", "tree us", "TFLOP/s", "dense flash TFLOP/s", "share", "unshared us", "unshared / tree"]
    table = Table(f"{shape}, paths of {path:,}: {heads}", header)
    section = Section([table])
    for name in WORKLOADS:
        forest = plant(name, path, session.sizes.rows)
        seconds, spread = _tree_seconds(session, shape, forest)
        flops = 4 * config.q_size * forest.keys
        length = dense.length_of(forest.keys)
        dense_rate = 4 * config.q_size * (length * (length + 1) // 2) / dense.seconds(1, length)
        unshared = dense.unshared_seconds(forest.prompts, path)
        share = flops / seconds / dense_rate
        table.add(
            f"{name}: {forest.prompts}",
            f"{forest.trie.num_rows:,}",
            f"{number(seconds * 1e6)} (spread {percent(spread)})",
            f"{number(flops / seconds / 1e12)} ({percent(flops / seconds / session.ceilings.matrix)} of matrix rate)",
            f"{number(dense_rate / 1e12)} (one sequence of {length:,})",
            percent(share),
            number(unshared * 1e6),
            number(unshared / seconds),
        )
        section.data[name] = {
            "prompts": forest.prompts,
            "rows": forest.trie.num_rows,
            "flops": flops,
            "seconds": seconds,
            "dense_flops_per_second": dense_rate,
            "share": share,
            "unshared_seconds": unshared,
        }
        section.measured.append(Measured("attention", f"{shape}, {name}, paths of {path:,}", share))
        device.release()
    section.lines += dense.remarks
    cudnn = dense.cudnn_remark(dense.length_of(plant(WORKLOADS[0], path, session.sizes.rows).keys))
    section.lines.append(cudnn)
    return section


def plant(name: str, path: int, rows: int) -> Forest:
    """About `rows` unique tokens of prompts of exactly `path` tokens each, which share as those of a judge do."""
    random = np.random.default_rng([_SEED, path])

    def tokens(count: int) -> np.ndarray:
        return random.integers(0, 1 << 30, max(1, count))

    if name == "one branch":
        sequences = [tokens(path) for _ in range(max(1, rows // path))]
        return Forest(len(sequences), TokenTrie.build(sequences))
    criteria = CRITERIA if name == "22 prompts" else 1
    rest = path - min(PREAMBLE, path // 4) - CRITERION - ENDING
    instruction = int(rest * INSTRUCTION_SHARE)
    first = (rest - instruction) // 2
    second = rest - instruction - first
    unique = instruction + 2 * (first + second) + 2 * criteria * (CRITERION + ENDING)
    preamble, tails = tokens(min(PREAMBLE, path // 4)), [tokens(CRITERION + ENDING) for _ in range(criteria)]
    sequences = []
    for _ in range(max(1, rows // unique)):
        start, responses = tokens(instruction), (tokens(first), tokens(second))
        for order in (responses, responses[::-1]):
            sequences += [np.concatenate([preamble, start, *order, tail]) for tail in tails]
    return Forest(len(sequences), TokenTrie.build(sequences))


def _tree_seconds(session: Session, shape: str, forest: Forest) -> tuple[float, float]:
    """Seconds of the kernel, and their spread."""
    config, device = session.sizes.shapes[shape], session.device
    layout = device.ops.plan_layout(
        device.torch_device, device.dtype, config.hidden_size, config.group_size, config.head_dim
    )
    plan = build_plan(forest.trie, layout).moved(lambda tensor: tensor.to(device.torch_device))
    # One row more than the plan has: the scratch row that kernels on the CPU write garbage to.
    queries = device.random(len(plan.tokens) + 1, config.num_heads, config.head_dim)
    kv = device.random(plan.num_slots, 2, config.num_kv_heads, config.head_dim)
    out = torch.empty_like(queries)
    timing = device.time([lambda: device.ops.tree_attention(queries, kv, plan.tiles, out=out)], session.sizes.window)
    return timing.seconds, timing.spread
