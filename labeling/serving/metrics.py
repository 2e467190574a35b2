"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.serving.batcher import Batcher

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_JOBS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Of one server, in a registry of its own."""

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.requests = Counter(
            "preftree_requests", "Requests by path and HTTP status.", ["path", "status"], registry=registry
        )
        self.dropped = Counter("preftree_dropped", "Requests whose client left before the answer.", registry=registry)
        self.seconds = Histogram(
            "preftree_request_seconds",
            "Seconds from a request's head to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_jobs = Histogram("preftree_batch_jobs", "Jobs of a batch.", buckets=_JOBS, registry=registry)
        self._registry = registry

    def watch(self, batcher: Batcher, judge: AnyJudge) -> None:
        """Adds what they count themselves, read when somebody asks."""
        usage = judge.usage
        for name, about, read in (
            ("waiting_jobs", "Jobs in the queue.", lambda: batcher.waiting_jobs),
            ("waiting_tokens", "Prompt tokens in the queue.", lambda: batcher.waiting_tokens),
            ("prompt_tokens", "Prompt tokens scored so far.", lambda: usage.prompt_tokens),
            ("unique_tokens", "Tokens that went through the model so far.", lambda: usage.unique_tokens),
            ("judge_seconds", "Seconds that the model ran so far.", lambda: usage.seconds),
        ):
            Gauge(f"preftree_{name}", about, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self._registry)
