"""The engine beside transformers on the same device: same weights, same prompts, same labels."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.gpu.report import Section, Table, number
from benchmarks.gpu.scoring import sized
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured
from benchmarks.gpu.texts import prompts_a_pair
from benchmarks.peers.transformers import PEERS, Peer, candidates, differences
from benchmarks.workloads import Workload
from preftree.engine.engine import Engine

# Tokens of a padded batch, padding included: memory stays some GB.
PADDED_TOKENS = 65_536
# Prompts on which settings are tried: a whole batch of the largest.
CALIBRATION_PROMPTS = 64
ROUNDS = 2
LEAST_PAIRS = 2
REMARKS = {
    "padded": "attn_implementation sdpa, padding on the right without a mask, the output matrix on last positions only",
    "prefix": "attn_implementation sdpa, a nested prefix cache; a forward pass holds the prompts of one group",
}


@dataclass(frozen=True)
class Race:
    """A peer and the engine on the same pairs. seconds: of each, the median. ratio: the median of the rounds'.

    logprob: the peer's answers. apart: [prompts] differences from the engine, nats.
    """

    peer: Peer
    pairs: int
    peer_seconds: float
    engine_seconds: float
    ratio: float
    logprob: np.ndarray
    apart: np.ndarray


def run(session: Session, shape: str, name: str, peer_name: str) -> Section:
    """A peer in its best setting on a few pairs, the engine on the same ones in turns with it."""
    engine, twin = session.models.engine(shape), session.models.transformers(shape)
    job = sized(session, shape, name)
    race = _race(session, engine, candidates(peer_name, twin, job, session.sizes.padded_sizes, PADDED_TOKENS), job)
    rates, furthest = (race.pairs / race.peer_seconds, race.pairs / race.engine_seconds), float(race.apart.max())
    on = f"{shape}, workload {name}"
    header = ["peer", "setting", "pairs", "pairs/s", "engine's pairs/s", "engine / peer", "differences, nats"]
    table = Table(f"{on}, {session.device.dtype_name}, on the same pairs", header)
    told = f"largest {furthest:.2g}, median {np.median(race.apart):.2g}"
    table.add(peer_name, race.peer.setting, race.pairs, *map(number, rates), number(race.ratio), told)
    data = {
        "setting": race.peer.setting,
        "pairs": race.pairs,
        "pairs_per_second": rates[0],
        "engine_pairs_per_second": rates[1],
        "ratio": race.ratio,
        "largest_difference_nats": furthest,
    }
    measured = [Measured("agreement", f"{on}, {peer_name}", furthest)]
    if name == "22":
        measured.append(Measured(peer_name, on, race.ratio))
    session.answers[shape, name, peer_name] = race.logprob
    return Section([table], [REMARKS[peer_name], *_between_peers(session, shape, name)], data, measured)


def _race(session: Session, engine: Engine, settings: Sequence[Peer], most: Workload) -> Race:
    """The fastest of `settings` on as many pairs as take it the usual time."""
    device = session.device
    few = most.first(-(-CALIBRATION_PROMPTS // prompts_a_pair(most.name)))
    settings[0].score(most.first(1).prompts)  # libraries warm up
    tried = [device.wall(partial(peer.score, few.prompts)) for peer in settings]
    peer = settings[tried.index(min(tried))]
    job = most.first(max(LEAST_PAIRS, round(session.sizes.run_seconds / min(tried) * few.num_pairs)))
    logprob, ours = peer.score(job.prompts), engine.score(job.ids, job.labels).logprob
    theirs_seconds, our_seconds = [], []
    for _ in range(ROUNDS):
        theirs_seconds.append(device.wall(partial(peer.score, job.prompts)))
        our_seconds.append(device.wall(partial(engine.score, job.ids, job.labels)))
    return Race(
        peer,
        job.num_pairs,
        statistics.median(theirs_seconds),
        statistics.median(our_seconds),
        statistics.median(theirs / own for theirs, own in zip(theirs_seconds, our_seconds, strict=True)),
        logprob,
        differences(logprob, ours),
    )


def _between_peers(session: Session, shape: str, name: str) -> Iterator[str]:
    """How far the peers are from one another, once both have answered: what the dtype is good for."""
    answers = [answer for peer in PEERS if (answer := session.answers.get((shape, name, peer))) is not None]
    if len(answers) == len(PEERS):
        shared = min(map(len, answers))
        apart = differences(*(answer[:shared] for answer in answers))
        yield f"the two peers differ from one another by up to {apart.max():.2g} nats"
