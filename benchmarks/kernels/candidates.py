"""Launch settings worth measuring, the choice among them, and the choice as text to paste into the kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Generic, Protocol, TypeVar

from preftree.kernels.label_head import HeadSettings
from preftree.kernels.launch import TENSOR_CORES, TileShapes

# Tiles and warps that may share an entry: more than one height only where each warp owns 16 whole rows, see
# `preftree.kernels.launch`.
HEIGHTS = {
    80: (
        ((16, 1), (128, 8)),
        ((16, 1), (64, 4)),
        ((64, 4), (128, 8)),
        ((64, 4),),
        ((64, 8),),
        ((128, 8),),
    ),
    90: (
        ((64, 4), (128, 8)),
        ((64, 4),),
        ((128, 8),),
        ((128, 4),),
    ),
}
KEY_BLOCKS = (64, 32, 128)
STAGES = (3, 2, 4, 5)
# A change of the table changes every label's last bits, and medians of one run differ by a percent.
WORTH_CHANGING = 0.97
# One table serves all GPUs: what the smallest one has of shared memory for a block, in bytes.
SMALLEST_SHARED = 99 * 1024

C = TypeVar("C")
Candidate = TypeVar("Candidate", contravariant=True)


def attention_candidates(table: int, head_size: int) -> list[TileShapes]:
    """Entries for `head_size` in `table` of TENSOR_CORES, the present one first."""
    present = TENSOR_CORES[table][head_size]
    others = (
        TileShapes(heights, block_n, num_stages)
        for heights, block_n, num_stages in product(HEIGHTS[table], KEY_BLOCKS, STAGES)
    )
    return list(dict.fromkeys([present, *others]))


def head_candidates(present: HeadSettings) -> list[HeadSettings]:
    """Blocks, warps and stages of the label head in 16 bits that fit every GPU, then other ranges of the vocabulary."""
    others = (
        replace(
            present,
            block_rows=block_rows,
            block_vocab=block_vocab,
            block_hidden=block_hidden,
            num_warps=num_warps,
            num_stages=num_stages,
        )
        for block_rows, block_vocab, block_hidden, num_warps, num_stages in product(
            (128, 64), (128, 256), (64, 32), (8, 4), STAGES
        )
    )
    ranges = (replace(present, split=split) for split in (256, 1024, 2048))
    return list(dict.fromkeys(one for one in (present, *others, *ranges) if _shared(one) <= SMALLEST_SHARED))


def _shared(settings: HeadSettings) -> int:
    """Bytes that the copies in flight take."""
    return 2 * (settings.block_rows + settings.block_vocab) * settings.block_hidden * settings.num_stages


class Bench(Protocol[Candidate]):
    """A device to measure on."""

    def problem(self, candidate: Candidate) -> str | None:
        """Why it cannot serve: it does not compile, spills, or computes something else."""
        ...

    def seconds(self, candidate: Candidate) -> float:
        """Of the workload, as far as it depends on the candidate."""
        ...


@dataclass(frozen=True)
class Choice(Generic[C]):
    """chosen: None where nothing works. seconds: of candidates that work. skipped: why others do not.

    untried: candidates that there was no time for.
    """

    chosen: C | None
    seconds: Mapping[C, float]
    skipped: Mapping[C, str]
    untried: int


def choose(candidates: Sequence[C], bench: Bench[C], has_time: Callable[[], bool]) -> Choice[C]:
    """The fastest candidate that works. The first, which is the present one, stays unless another is clearly faster."""
    seconds: dict[C, float] = {}
    skipped: dict[C, str] = {}
    for candidate in candidates:
        if seconds and not has_time():
            break
        note = bench.problem(candidate)
        if note is None:
            seconds[candidate] = bench.seconds(candidate)
        else:
            skipped[candidate] = note
    present = candidates[0]
    fastest = min(seconds, key=seconds.__getitem__, default=None)
    if fastest is not None and present in seconds and seconds[fastest] > WORTH_CHANGING * seconds[present]:
        fastest = present
    return Choice(fastest, seconds, skipped, untried=len(candidates) - len(seconds) - len(skipped))


def report(title: str, present: C, choice: Choice[C]) -> list[str]:
    """Lines for people: what was skipped and why, the fastest candidates, and what came of it."""
    lines = [f"{title}: {len(choice.seconds)} measured, {len(choice.skipped)} skipped, {choice.untried} not tried"]
    lines += [f"  skipped {candidate}: {note}" for candidate, note in choice.skipped.items()]
    fastest = sorted(choice.seconds.items(), key=lambda pair: pair[1])
    lines += [f"  {1e3 * seconds:10.3f} ms  {candidate}" for candidate, seconds in fastest[:5]]
    if choice.chosen is None:
        return [*lines, f"  nothing works here, not even the present settings; they stay: {present}"]
    if choice.chosen == present:
        return [*lines, "  the present settings stay"]
    if present not in choice.seconds:
        return [*lines, f"  chosen, as the present settings do not work here: {choice.chosen}"]
    gain = choice.seconds[present] / choice.seconds[choice.chosen]
    return [*lines, f"  chosen, {gain:.2f} times as fast: {choice.chosen}"]


def table_text(tables: Mapping[int, Mapping[int, TileShapes]]) -> str:
    """TENSOR_CORES as it stands in kernels/launch.py."""
    return "\n".join(["TENSOR_CORES = {", *_table_lines(tables), "}"])


def _table_lines(tables: Mapping[int, Mapping[int, TileShapes]]) -> Iterator[str]:
    for table, entries in tables.items():
        yield f"    {table}: {{"
        for size, shapes in entries.items():
            text = f"{shapes.heights}, block_n={shapes.block_n}, num_stages={shapes.num_stages}"
            yield f"        {size}: TileShapes({text}),"
        yield "    },"


def head_text(settings: HeadSettings) -> str:
    """The label head's settings in 16 bits as they stand in kernels/label_head.py."""
    return f"_SIXTEEN_BIT = {settings}"
