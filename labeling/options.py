"""What a user asks for, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """What is asked about which file, and of whom. None leaves a choice to the method or the engine.

    scale: of direct scores, "1-10". principles: a file of them, or a set that comes with preftree. aggregate: how the
    verdicts of principles become one. comparisons: ordered pairs to judge of a row of responses. principle_sets: to
    score under each of them; names of principles, or their texts. subset: an input column, to report agreement with
    gold for each of its values. mapping: "FIELD=COLUMN" texts, see `labeling.data.layout.ColumnMapping`. cot: let the
    judge explain before it answers; the six that follow are of what it writes, see `labeling.reasoning.Reasoning`.
    kv_memory: bytes of keys and values to keep meanwhile.
    """

    input: str | tuple[str, ...]
    model: str = "embedded"
    method: str = "rlaif"
    template: str | None = None
    preamble: str = "detailed"
    exemplars: int = 0
    scale: str | None = None
    principles: str | None = None
    aggregate: str | None = None
    comparisons: int | None = None
    principle_sets: tuple[tuple[str, ...], ...] = ()
    subset: str | None = None
    cot: bool = False
    max_rationale_tokens: int | None = None
    samples: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    rendering: Literal["auto", "chat", "plain"] = "auto"
    limit: int | None = None
    mapping: tuple[str, ...] = ()
    device: str | None = None
    dtype: str | None = None
    batch_tokens: int | None = None
    prefix_cache: bool = True
    kv_memory: int | None = None


@dataclass(frozen=True, kw_only=True)
class LabelOptions(JudgeOptions):
    """out: the directory of the run, which is gone on with if it is there already. overwrite: begin it again in its
    place. force_new: begin it again beside it. retry_rejects: judge rejected rows again. shard: "i/n", to
    label that part of the rows. profile: file for a profiler's trace.
    """

    out: str
    overwrite: bool = False
    force_new: bool = False
    retry_rejects: bool = False
    shard: str | None = None
    quiet: bool = False
    profile: str | None = None
