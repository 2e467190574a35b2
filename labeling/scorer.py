"""The one door to the engine: requests in text become token ids, token ids become scores."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import InputError, ModelError
from labeling.labels.disjoint import disjoint
from labeling.types import RequestScores, ScoreRequest

if TYPE_CHECKING:
    from engine.engine import Engine, Planner
    from engine.loading.checkpoint import Checkpoint
    from engine.loading.tokenizer import Tokenizer
    from engine.planning.estimate import JobPlan
    from engine.running.profiling import Trace
    from engine.running.scores import LabelScores

Rendering = Literal["auto", "chat", "plain"]
# Label ids depend on the text right before the label; that many tokens of it decide them.
_TAIL_TOKENS = 16
# A template that ends right behind a response has a tail for every row.
_CACHED_TAILS = 1024
_VERSIONED = ("torch", "triton", "numpy", "tokenizers", "safetensors", "jinja2")


@dataclass(frozen=True)
class Encoded:
    """ids: the prompt's token ids. labels: token ids of each label, as they continue this prompt."""

    ids: list[int]
    labels: list[list[int]]


@dataclass
class Usage:
    """Running totals. unique_tokens: rows that went through the model. seconds: spent in the engine."""

    prompt_tokens: int = 0
    unique_tokens: int = 0
    batches: int = 0
    seconds: float = 0.0


class Scorer:
    """A model behind a door of text. Made by `open`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        planner: Planner,
        engine: Engine | None,
        *,
        rendering: Rendering,
        prefix_cache: bool,
    ) -> None:
        """engine: None for planning only. rendering: "auto" is "chat" where the model has a chat template."""
        self._checkpoint = checkpoint
        self._planner = planner
        self._engine = engine
        self._chat = None if rendering == "plain" else checkpoint.chat_template
        if rendering == "chat" and self._chat is None:
            raise ModelError(f"model {checkpoint.name} has no chat template; use --plain")
        # Now, not when labels are there to be lost.
        self._fingerprint = checkpoint.fingerprint() if engine else None
        self._prefix_cache = prefix_cache
        self._label_ids: dict[tuple[object, ...], list[list[int]]] = {}
        self._last_ids: Sequence[int] = ()
        self._trace: Trace | None = None
        self.usage = Usage()

    @classmethod
    def open(
        cls,
        model: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        prefix_cache: bool = True,
        rendering: Rendering = "auto",
        weights: bool = True,
    ) -> Scorer:
        """Open `model` ("embedded", a directory, a .gguf file). weights: False reads none, for planning only."""
        from engine.engine import Engine, Planner
        from engine.loading.checkpoint import open_checkpoint

        checkpoint = open_checkpoint(model)
        if rendering != "plain" and checkpoint.chat_template is not None:
            checkpoint.chat_template.prepare()  # before the weights, which take longer
        asked: dict[str, Any] = {"device": device, "dtype": dtype, "batch_tokens": batch_tokens}
        engine = Engine(checkpoint, **asked) if weights else None
        planner = Planner(checkpoint, **asked, prefix_cache=prefix_cache, target=engine.target if engine else None)
        return cls(checkpoint, planner, engine, rendering=rendering, prefix_cache=prefix_cache)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._checkpoint.tokenizer

    @property
    def window_tokens(self) -> int:
        """Unique tokens worth handing to `score` together: one forward pass."""
        return self._planner.batch_tokens

    def encode(self, request: ScoreRequest) -> Encoded:
        """Token ids of a request. InputError when this prompt cannot be asked, ModelError when no prompt can."""
        pieces = self._pieces(request)
        ids = self.tokenizer.encode(pieces)
        context = self._checkpoint.config.max_context
        labels = self._resolve(pieces, ids, request)
        longest = len(ids) + max(len(label) for label in labels) - 1
        if longest > context:
            raise InputError(f"the prompt has {longest:,} tokens, the model's context is {context:,}")
        return Encoded(ids, labels)

    def render(self, request: ScoreRequest) -> str:
        """The whole prompt as text, control tokens included, for people to read."""
        return "".join(
            piece if isinstance(piece, str) else self.tokenizer.decode([piece]) for piece in self._pieces(request)
        )

    def score(self, encoded: Sequence[Encoded]) -> list[RequestScores]:
        """Scores of each request, in order; one trie over all of them."""
        (scores,) = self.score_stream([encoded])
        return scores

    def score_stream(self, windows: Iterable[Sequence[Encoded]]) -> Iterator[list[RequestScores]]:
        """`score` of each window, in order; a window may be empty.

        On a GPU windows are taken in another thread, while earlier ones run.
        """
        if self._engine is None:
            raise RuntimeError("this scorer was opened without weights")
        taken: deque[Sequence[Encoded]] = deque()

        def calls() -> Iterator[tuple[Sequence[Sequence[int]], Sequence[Sequence[Sequence[int]]]]]:
            for window in windows:
                taken.append(window)
                yield [item.ids for item in window], [item.labels for item in window]

        for scores in self._engine.score_stream(calls(), prefix_cache=self._prefix_cache):
            self._count(scores)
            yield [
                RequestScores(disjoint(logprob[: len(item.labels)].tolist(), item.labels), float(mass), len(item.ids))
                for item, logprob, mass in zip(taken.popleft(), scores.logprob, scores.label_mass, strict=True)
            ]

    def _count(self, scores: LabelScores) -> None:
        self.usage.prompt_tokens += scores.prompt_tokens
        self.usage.unique_tokens += scores.rows
        self.usage.batches += scores.batches
        self.usage.seconds += scores.seconds
        if self._trace is not None:
            self._trace.step()

    @contextmanager
    def traced(self, path: Path) -> Iterator[None]:
        """A profiler's trace of the first windows that are scored while the context lasts, written to `path`."""
        from engine.running.profiling import Trace

        with Trace(path) as self._trace:
            try:
                yield
            finally:
                self._trace = None

    def unique_tokens(self, encoded: Sequence[Encoded]) -> int:
        """Rows that this group adds beyond what it shares with the group asked about before."""
        from engine.planning.trie import as_token_ids, common_prefix, unique_tokens

        prompts = [as_token_ids(item.ids) for item in encoded]
        forced = sum(len(label) - 1 for item in encoded for label in item.labels)
        shared = min(common_prefix(as_token_ids(self._last_ids), ids) for ids in prompts)
        self._last_ids = encoded[0].ids
        return unique_tokens(prompts) + forced - shared

    def plan(self, encoded: Sequence[Encoded]) -> JobPlan:
        """What `score` would run for this, after all that was planned before."""
        return self._planner.plan([item.ids for item in encoded], [item.labels for item in encoded])

    def describe(self) -> dict[str, object]:
        """What a run's manifest should say of the model and the software."""
        return {
            "model": self._checkpoint.name,
            "model_sha256": self._fingerprint,
            "device": str(self._engine.device) if self._engine else None,
            "device_name": self._engine.device_name if self._engine else None,
            "dtype": str(self._engine.dtype).removeprefix("torch.") if self._engine else None,
            "rendering": "plain" if self._chat is None else "chat",
            "batch_tokens": self.window_tokens,
            "prefix_cache": self._prefix_cache,
            "versions": {"python": platform.python_version(), **_versions()},
        }

    def _pieces(self, request: ScoreRequest) -> list[str | int]:
        if self._chat is not None:
            return self._chat.pieces(self.tokenizer, request.user, request.system, request.answer_start)
        text = "\n\n".join(part for part in (request.system, request.user, request.answer_start) if part)
        return self.tokenizer.plain(text)

    def _resolve(self, pieces: Sequence[str | int], ids: Sequence[int], request: ScoreRequest) -> list[list[int]]:
        """Token ids of the labels at the real answer position: what each adds to the ids of this prompt."""
        key = (tuple(ids[-_TAIL_TOKENS:]), request.answer_start, request.labels)
        if key not in self._label_ids:
            resolved = []
            for label in request.labels:
                whole = self.tokenizer.encode([*pieces, label])
                if whole[: len(ids)] != list(ids) or len(whole) == len(ids):
                    raise ModelError(
                        f"label {label!r} merges with the answer start {request.answer_start!r} in this model's "
                        "tokenizer; move the space between them from one to the other in the template"
                    )
                resolved.append(whole[len(ids) :])
            if len({tuple(label) for label in resolved}) < len(resolved):
                raise ModelError(f"labels {request.labels} are not distinct for this model's tokenizer: {resolved}")
            if len(self._label_ids) >= _CACHED_TAILS:
                self._label_ids.clear()
            self._label_ids[key] = resolved
        return self._label_ids[key]


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
