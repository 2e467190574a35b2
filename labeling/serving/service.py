"""What the server does with samples, whatever protocol they came by."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from preftree.engine.errors import InputError
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.base import Method
from preftree.labeling.serving.batcher import Batcher, Job, Limits
from preftree.labeling.serving.judging import Judging, Principles
from preftree.labeling.serving.metrics import Metrics
from preftree.labeling.serving.refused import Refused
from preftree.labeling.serving.scorer import Asked, Scorer
from preftree.labeling.types import Label, Message, Response, ResponseSet, Sample

# The field of the request that a sample came from, and the sample.
Named = tuple[str, Sample]
NamedResponse = tuple[str, Response]


class Service:
    """A judge behind a queue, and the method in force.

    Attributes:
        judging: what is in force for requests that come now.
        metrics: what is counted.
        batcher: the queue.
    """

    def __init__(
        self, judge: AnyJudge, judging: Judging, principles: Principles, limits: Limits, deadline: float
    ) -> None:
        """deadline: seconds that a request may take."""
        self.judging = judging
        self.model: str = judge.describe()["model"]
        self.metrics = Metrics()
        self._principles = principles
        self._scorer = Scorer(judge)
        self._deadline = deadline
        self._tokenising = ThreadPoolExecutor(1, "preftree-tokenise")
        self.batcher: Batcher[Asked, Label] = Batcher(self._label, limits)
        self.metrics.watch(self.batcher, judge)

    def warm_up(self) -> None:
        """Scores a sample, so that what is wrong with model and template is known before the first request."""
        column = self.judging.rubric_column
        row = {} if column is None else {column: ["It is short."]}
        for method, sample in (
            (self.judging.single, Response("", (Message("user", "Which?"),), "This.", row)),
            (self.judging.group, ResponseSet("", (Message("user", "Which?"),), ("This.", "That."))),
        ):
            if method is not None:
                (answer,) = self._scorer.label([self._scorer.prepare(method, sample).asked])
                if isinstance(answer, Exception):
                    raise answer

    async def scored(self, judging: Judging, samples: Sequence[NamedResponse], client: str) -> list[Label]:
        """The label of each single response. Raises Refused."""
        if judging.single is None:
            reason = f"method {judging.method} compares responses; use /compare, or start the server with another"
            raise Refused(400, reason)
        return await self._labels(judging.single, samples, client)

    async def compared(self, judging: Judging, sample: Named, client: str) -> Label:
        """The label of a group of responses. Raises Refused."""
        if judging.group is None:
            reason = f"method {judging.method} compares no responses; start the server with rlaif or principled"
            raise Refused(400, reason)
        (label,) = await self._labels(judging.group, [sample], client)
        return label

    def replace_principles(self, sets: Sequence[Sequence[str]]) -> Judging:
        """Puts other sets of principles in force, for requests that come from now on. Raises Refused."""
        try:
            self.judging = self._principles.replaced(self.judging, sets)
        except InputError as error:
            raise Refused(422, str(error), "sets") from None
        return self.judging

    def close(self) -> None:
        """Take no more requests."""
        self.batcher.close()
        self._tokenising.shutdown(wait=False)

    async def _labels(self, method: Method, samples: Sequence[Named], client: str) -> list[Label]:
        try:
            async with asyncio.timeout(self._deadline):
                loop = asyncio.get_running_loop()
                jobs = await loop.run_in_executor(self._tokenising, self._prepared, method, samples)
                return await self.batcher.answers(jobs, client)
        except TimeoutError:
            raise Refused(504, f"no answer within {self._deadline:g} s; the server has too much to do") from None
        except InputError as error:
            raise Refused(500, str(error)) from None

    def _prepared(self, method: Method, samples: Sequence[Named]) -> list[Job[Asked]]:
        jobs = []
        for field, sample in samples:
            try:
                jobs.append(self._scorer.prepare(method, sample))
            except InputError as error:
                raise Refused(422, str(error), field) from None
        return jobs

    def _label(self, batch: Sequence[Asked]) -> list[Label | Exception]:
        self.metrics.batch_jobs.observe(len(batch))
        return self._scorer.label(batch)
