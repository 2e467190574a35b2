"""What happened to the workers of a run, for its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from preftree.labeling.terminal import count, one_line


@dataclass
class Events:
    """Counts over a run.

    Attributes:
        shards: that were judged.
        nodes: by the name of a machine, how many workers had a model there.
        losses: by machine and reason, how many workers were lost.
        rejected: rows that no worker survived.
        last: why a worker was last left out or lost.
    """

    shards: int = 0
    nodes: Counter[str] = field(default_factory=Counter)
    losses: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejected: int = 0
    last: str = ""

    def lost(self, node: str, reason: str) -> None:
        self.losses[node, reason] += 1
        self.last = reason

    def lines(self) -> Iterator[tuple[str, str]]:
        """For `preftree.labeling.report.text.aligned`."""
        workers = self.nodes.total()
        yield (
            "workers",
            f"{count(self.shards, 'shard')} by {count(workers, 'worker')} on {count(len(self.nodes), 'node')}",
        )
        for (node, reason), number in self.losses.items():
            yield (
                "lost",
                f"{count(number, 'worker')} on {one_line(node)}: {one_line(reason)}; what it judged was tried again",
            )
        if self.rejected:
            yield (
                "rejected",
                f"{count(self.rejected, 'row')} that no worker survived; --retry-rejects judges them again",
            )
