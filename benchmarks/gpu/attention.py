"""Tree attention on paths of several lengths, against dense flash attention.

Two comparisons. The rate: one plain causal sequence that takes as many operations. The work: the same prompts
without sharing, every one computed from its first token on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.gpu.dense import DenseAttention
from benchmarks.gpu.device import Call, Device, Timing
from benchmarks.gpu.packed import FlashAttention3, NoPeerError, PackedAttention, PackedInputs, Varlen
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.planning.plan import build_plan
from preftree.engine.planning.trie import TokenTrie

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
    header = ["prompts", "rows", "tree us", "TFLOP/s", "dense flash TFLOP/s", "share", "fastest dense TFLOP/s", "share"]
    header += ["unshared us", "unshared / tree"]
    section = Section([Table(f"{shape}, paths of {path:,}: {heads}", header)])
    peers = _peers(session, config, section)
    unshared = Table("The same prompts without sharing, us", ["prompts", "flash, one length", *(p.name for p in peers)])
    for name in WORKLOADS:
        forest = plant(name, path, session.sizes.rows)
        timing = device.time([tree_call(device, config, forest)], session.sizes.window)
        flash = dense.unshared_seconds(forest.prompts, path)
        packed = [_packed_seconds(session, config, peer, (path,) * forest.prompts) for peer in peers]
        unshared.add(name, number(flash * 1e6), *(number(seconds * 1e6) for seconds in packed))
        rates = _dense_rates(session, dense, config, forest, peers)
        found = Found(name, forest, timing, rates[0], float(np.nanmax(rates)), min([flash, *packed]))
        _add(section, session, config, found, f"{shape}, {name}, paths of {path:,}")
        device.release()
    section.tables.append(unshared)
    section.lines += dense.remarks
    section.lines.append("fastest dense: of flash attention, cuDNN's and the peers below, on one sequence as long")
    return section


@dataclass(frozen=True)
class Found:
    """One workload's measurements.

    Attributes:
        name: Of the workload.
        forest: Its prompts.
        timing: Of tree attention.
        dense_rate: FLOP/s of flash attention on one plain sequence with as many operations.
        fastest_rate: The same of the fastest dense attention that runs here.
        unshared: Seconds of the fastest dense attention on every prompt from its first token on.
    """

    name: str
    forest: Forest
    timing: Timing
    dense_rate: float
    fastest_rate: float
    unshared: float


def _add(section: Section, session: Session, config: ModelConfig, found: Found, on: str) -> None:
    forest, seconds, dense_rate = found.forest, found.timing.seconds, found.dense_rate
    flops = 4 * config.q_size * forest.keys
    share, roofline = flops / seconds / dense_rate, flops / seconds / session.ceilings.matrix
    section.tables[0].add(
        f"{found.name}: {forest.prompts}",
        f"{forest.trie.num_rows:,}",
        f"{number(seconds * 1e6)} (spread {percent(found.timing.spread)})",
        f"{number(flops / seconds / 1e12)} ({percent(roofline)} of matrix rate)",
        f"{number(dense_rate / 1e12)} (one sequence of {DenseAttention.length_of(forest.keys):,})",
        percent(share),
        number(found.fastest_rate / 1e12),
        percent(flops / seconds / found.fastest_rate),
        number(found.unshared * 1e6),
        number(found.unshared / seconds),
    )
    section.data[found.name] = {
        "prompts": forest.prompts,
        "rows": forest.trie.num_rows,
        "flops": flops,
        "seconds": seconds,
        "dense_flops_per_second": dense_rate,
        "share": share,
        "fastest_dense_flops_per_second": found.fastest_rate,
        "unshared_seconds": found.unshared,
    }
    section.measured.append(Measured("attention", on, share, roofline))


def _dense_rates(
    session: Session, dense: DenseAttention, config: ModelConfig, forest: Forest, peers: list[PackedAttention]
) -> list[float]:
    """FLOP/s on one plain sequence whose rows attend to as many keys in all: flash attention, cuDNN's, the peers."""
    length = dense.length_of(forest.keys)
    seconds = [dense.seconds(1, length), dense.cudnn_seconds(length)]
    seconds += [_packed_seconds(session, config, peer, (length,)) for peer in peers]
    return [4 * config.q_size * (length * (length + 1) // 2) / taken for taken in seconds]


def _peers(session: Session, config: ModelConfig, section: Section) -> list[PackedAttention]:
    """Those that run here and compute the same; the section says why others do not."""
    if session.device.is_rehearsal:
        section.lines.append(f"{Varlen.name} needs a GPU")
        makers: list[Callable[[], PackedAttention]] = []
    else:
        makers = [Varlen]
    if (library := session.fa3) is not None:
        makers.append(lambda: FlashAttention3(library))
    peers = []
    for make in makers:
        try:
            peers.append(make().checked(session.device, config.num_heads, config.num_kv_heads, config.head_dim))
        except NoPeerError as error:
            section.lines.append(str(error))
    return peers


def _packed_seconds(session: Session, config: ModelConfig, peer: PackedAttention, lengths: tuple[int, ...]) -> float:
    sizes = (config.num_heads, config.num_kv_heads, config.head_dim)
    inputs = PackedInputs.random(session.device, *sizes, lengths)
    return session.device.time([peer.call(inputs)], session.sizes.window).seconds


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


def tree_call(device: Device, config: ModelConfig, forest: Forest, finals: bool = False) -> Call:
    """Tree attention from every row of `forest`; with `finals` from the last row of every prompt, too."""
    layout = device.ops.plan_layout(
        device.torch_device, device.dtype, config.hidden_size, config.group_size, config.head_dim
    )
    plan = build_plan(forest.trie, layout).moved(lambda tensor: tensor.to(device.torch_device))
    queries = device.random(len(plan.tokens), config.num_heads, config.head_dim)
    kv = device.random(plan.num_slots, 2, config.num_kv_heads, config.head_dim)
    out = torch.empty_like(queries)

    def call() -> None:
        device.ops.tree_attention(queries, kv, plan.tiles, out=out)
        if finals:
            device.ops.tree_attention(queries, kv, plan.final_tiles, out=out)

    return call
