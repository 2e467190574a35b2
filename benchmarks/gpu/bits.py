"""The same labels bit for bit, however the work is cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.gpu.report import Section, Table
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured
from benchmarks.gpu.texts import workload
from preftree.engine.engine import Engine
from preftree.engine.results import LabelScores


def run(session: Session, shape: str, name: str) -> Section:
    """Every variation against one call with the default budget."""
    sizes = session.sizes
    job = workload(name, sizes.bits_pairs, sizes.shapes[shape].vocab_size, sizes.text_divisor)
    ids, labels = job.ids, job.labels
    table = Table(f"{shape}, workload {name}, {len(ids):,} prompts", ["variation", "labels", "of them different"])
    section = Section([table])
    engine = session.models.engine(shape)
    reference = _bits(engine.score(ids, labels))

    def compare(variation: str, found: np.ndarray, expected: np.ndarray) -> None:
        different = int((found != expected).any(axis=-1).sum())
        table.add(variation, f"{found[..., 0].size:,}", f"{different:,}")
        section.data[variation] = different
        section.measured.append(Measured("bits", f"{shape}, {variation}", float(different)))

    variations: dict[str, Callable[[Engine], LabelScores]] = {
        "again": lambda engine: engine.score(ids, labels),
        "no prefix cache": lambda engine: engine.score(ids, labels, prefix_cache=False),
    }
    for variation, score in variations.items():
        compare(variation, _bits(score(engine)), reference)
    compare("reversed order", _bits(engine.score(ids[::-1], labels[::-1]))[::-1], reference)
    compare("every prompt in its pair's call", _by_pair(engine, ids, labels, len(ids) // job.num_pairs), reference)
    default = engine.batch_tokens
    for budget in sizes.batch_budgets:
        engine.batch_tokens = budget
        compare(f"batches of {budget:,} rows", _bits(engine.score(ids, labels)), reference)
    engine.batch_tokens = default
    return section


def _bits(scores: LabelScores) -> np.ndarray:
    """Bit patterns of log-probability and logit, [prompts, labels, 2] int32: nan equals nan here."""
    return np.stack([np.ascontiguousarray(array).view(np.int32) for array in (scores.logprob, scores.logit)], axis=-1)


def _by_pair(engine: Engine, ids: list[list[int]], labels: list[list[list[int]]], size: int) -> np.ndarray:
    found = [_bits(engine.score(ids[at : at + size], labels[at : at + size])) for at in range(0, len(ids), size)]
    return np.concatenate(found)
