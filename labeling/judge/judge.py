"""A model that scores text requests. With `reward_model` and `installed`, what labeling imports of the engine."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from preftree.engine.errors import InputError, ModelError
from preftree.labeling.judge.calls import (
    answered,
    explained,
    passing,
    prompts_and_labels,
    prompts_to_go_on_from,
    rationales_of,
)
from preftree.labeling.judge.encoding import Encoded, RequestEncoder
from preftree.labeling.judge.installed import versions
from preftree.labeling.judge.usage import ProgressCallback, Usage
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.types import RationaleRequest, Request, RequestScores, ScoreRequest

if TYPE_CHECKING:
    import torch

    from preftree.engine.checkpoint import Checkpoint
    from preftree.engine.device_names import Devices
    from preftree.engine.engine import Engine
    from preftree.engine.planner import Planner
    from preftree.engine.planning.estimate import JobPlan
    from preftree.engine.results import LabelScores, Rewards
    from preftree.engine.tokenizer.tokenizer import Tokenizer
    from preftree.engine.trace import Trace

Rendering = Literal["auto", "chat", "plain"]


class Judge:
    """Scores text requests with a loaded model. Create with `Judge.load`.

    A context manager: leaving it gives the model's memory back, as `close` does. It pickles as what `load` was given:
    whoever unpickles it loads the model there. See `preftree.Engine` for forks.
    """

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
        self._asked: dict[str, Any] | None = None
        self._planner = planner
        self._engine = engine
        chat = None if rendering == "plain" else checkpoint.chat_template
        if rendering == "chat" and chat is None:
            raise ModelError(f"model {checkpoint.name} has no chat template; use --plain")
        # Now, not when labels are there to be lost.
        self._model_files = checkpoint.file_states()
        self._model_sha256 = checkpoint.fingerprint() if engine else None
        self._prefix_cache = prefix_cache
        self._rendering = "plain" if chat is None else "chat"
        pieces = None if chat is None else partial(chat.conversation, checkpoint.tokenizer)
        self._encoder = RequestEncoder(checkpoint.tokenizer, pieces, checkpoint.config.max_context)
        self._last_ids: Any = None  # an array
        self._trace: Trace | None = None
        self.usage = Usage()

    @classmethod
    def load(
        cls,
        model: str,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = "auto",
        batch_tokens: int | None = None,
        prefix_cache: bool = True,
        kv_memory: int | str | None = None,
        memory_fraction: float | None = None,
        stream_layers: str = "auto",
        devices: Devices | None = None,
        rendering: Rendering = "auto",
        weights: bool = True,
        offline: bool = False,
    ) -> Self:
        """Load a model to judge with.

        Args:
            model: "embedded", a Hugging Face directory, a .gguf file, or a name on the Hugging Face hub.
            device: see `preftree.Engine.load`, as for dtype and batch_tokens.
            dtype: of weights and activations; "auto" is bfloat16 where that is fast, else float32.
            batch_tokens: unique tokens of a forward pass.
            prefix_cache: keep the keys and values of what all prompts begin with.
            kv_memory: bytes for keys and values while rationales are generated; "4GB" or "4GiB", too.
            memory_fraction: of a GPU's memory, for weights and all else; see `preftree.Engine.load`.
            stream_layers: "auto", "always" or "never"; see there.
            devices: several equal GPUs that share the layers, such as "0,1"; see `preftree.Engine.load`.
            rendering: "chat" applies the model's chat template, "plain" skips it, "auto" applies it if there is one.
            weights: False reads none, for planning only.
            offline: a model that is named as on the hub comes from the cache; nothing is downloaded.

        Raises:
            ModelError: the model cannot be read, or is not supported.
            InputError: a device, dtype or budget that is not there.
        """
        from preftree.engine.checkpoint import open_checkpoint
        from preftree.engine.engine import Engine
        from preftree.engine.planner import Planner

        checkpoint = open_checkpoint(model, offline)
        cls._check_kind(checkpoint)
        if rendering != "plain" and checkpoint.chat_template is not None:
            checkpoint.chat_template.prepare()  # before the weights, which take longer
        asked: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "batch_tokens": batch_tokens,
            "memory_fraction": memory_fraction,
            "stream_layers": stream_layers,
            "devices": devices,
        }
        budget: dict[str, Any] = {"kv_memory": kv_memory}
        engine = Engine(checkpoint, **asked, kv_memory=ModelOptions(**budget).kv_memory) if weights else None
        planner = Planner(checkpoint, **asked, prefix_cache=prefix_cache, target=engine.target if engine else None)
        judge = cls(checkpoint, planner, engine, rendering=rendering, prefix_cache=prefix_cache)
        more = {"prefix_cache": prefix_cache, "rendering": rendering, "weights": weights, "offline": offline}
        judge._asked = asked | budget | more
        return judge

    def __reduce__(self) -> tuple[Any, ...]:
        if self._asked is None:
            raise InputError("only a judge made by Judge.load can go to another process")
        return partial(type(self).load, **self._asked), (self._checkpoint.spec,)

    @staticmethod
    def _check_kind(checkpoint: Checkpoint) -> None:
        if checkpoint.config.is_reward_model:
            raise ModelError(f"model {checkpoint.name} is a reward model, which answers nothing; use `preftree reward`")

    def close(self) -> None:
        """Give the model's memory back. The judge cannot score afterwards."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def engine(self) -> Engine:
        """What the judge scores with; for prompts that are token ids. InputError where there is none."""
        if self._engine is None:
            raise InputError("this judge has no weights: it is closed, or was loaded with weights=False")
        return self._engine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def model(self) -> str:
        """What the model is called: "embedded", or its path as it was given."""
        return self._checkpoint.name

    @property
    def tokenizer(self) -> Tokenizer:
        return self._checkpoint.tokenizer

    @property
    def window_tokens(self) -> int:
        """Unique tokens worth handing to `score` together: one forward pass."""
        return self._planner.batch_tokens

    def encode(self, request: Request) -> Encoded:
        """Token ids of a request. InputError when this prompt cannot be asked, ModelError when no prompt can."""
        assert isinstance(request, ScoreRequest)
        return self._encoder.encode(request)

    def encode_all(self, requests: Sequence[Request]) -> list[Encoded | InputError]:
        """`encode` of each, or the InputError that it raises: faster, as texts are tokenised in several threads."""
        asked = [request for request in requests if isinstance(request, ScoreRequest)]
        assert len(asked) == len(requests)
        return self._encoder.encode_all(asked)

    def render(self, request: Request) -> str:
        """The whole prompt as text, control tokens included, for people to read."""
        assert isinstance(request, ScoreRequest)
        return self._encoder.render(request)

    def score(self, encoded: Sequence[Encoded]) -> list[RequestScores]:
        """Scores of each request, in order; one trie over all of them.

        Calls of several threads that wait for each other are run together, unless rationales are asked for.
        """
        if not encoded or any(item.rationale is not None for item in encoded):
            (found,) = self.score_stream([encoded])
            return found
        scores = self.engine.score(*prompts_and_labels(encoded), prefix_cache=self._prefix_cache)
        return self._counted(scores, encoded)

    def score_stream(
        self, windows: Iterable[Sequence[Encoded]], progress: ProgressCallback | None = None
    ) -> Iterator[list[RequestScores]]:
        """`score` of each window, in order; a window may be empty.

        All requests must ask for a rationale, and alike, or none: InputError. progress: hears of what is written.
        On a GPU windows are taken while earlier ones run.
        """
        remaining = iter(windows)
        for window in remaining:
            if not window:
                yield []
                continue
            whole, rationale = chain([window], remaining), window[0].rationale
            yield from self._scored(whole) if rationale is None else self._explained(whole, rationale, progress)

    def _scored(self, windows: Iterable[Sequence[Encoded]]) -> Iterator[list[RequestScores]]:
        """Of requests without rationale."""
        taken: deque[Sequence[Encoded]] = deque()
        calls = map(prompts_and_labels, passing(windows, taken, None))
        for scores in self.engine.score_stream(calls, prefix_cache=self._prefix_cache):
            yield self._counted(scores, taken.popleft())

    def _counted(self, scores: LabelScores, window: Sequence[Encoded]) -> list[RequestScores]:
        self._count(scores, scores.rows)
        return answered(window, scores.logprob, scores.label_mass)

    def _explained(
        self, windows: Iterable[Sequence[Encoded]], rationale: RationaleRequest, progress: ProgressCallback | None
    ) -> Iterator[list[RequestScores]]:
        """Of requests that all ask for `rationale`."""
        taken: deque[Sequence[Encoded]] = deque()
        calls = map(prompts_to_go_on_from, passing(windows, taken, rationale))
        sampling = replace(rationale.reasoning, stop=rationale.stop)
        for reasoned in self.engine.generate_and_score_stream(calls, sampling, progress):
            written = rationales_of(reasoned.generations)
            cut = sum(one.cut for one in written)
            tokens = sum(one.tokens for one in written)
            more = Usage(generated_tokens=tokens, rationales=len(written), cut_rationales=cut)
            self._count(reasoned.scores, reasoned.prefill_rows, more)
            yield explained(taken.popleft(), written, reasoned.scores.logprob, reasoned.scores.label_mass)

    def _count(self, scores: LabelScores | Rewards, unique_tokens: int, more: Usage | None = None) -> None:
        """A call of the engine. more: what it has written."""
        done = replace(more or Usage(), prompt_tokens=scores.prompt_tokens, unique_tokens=unique_tokens)
        self.usage.add(replace(done, batches=scores.batches, seconds=scores.seconds))
        if self._trace is not None:
            self._trace.step()

    @contextmanager
    def traced(self, path: Path) -> Iterator[None]:
        """A profiler's trace of the first windows that are scored while the context lasts, written to `path`."""
        from preftree.engine.trace import Trace

        with Trace(path) as self._trace:
            try:
                yield
            finally:
                self._trace = None

    def unique_tokens(self, encoded: Sequence[Encoded]) -> int:
        """Rows that this group adds beyond what it shares with the group judged before."""
        from preftree.engine.planning.trie import common_prefix, unique_tokens

        prompts = [item.array for item in encoded]
        forced = sum(len(label) - 1 for item in encoded for label in item.labels_of_prompt)
        shared = 0 if self._last_ids is None else min(common_prefix(self._last_ids, ids) for ids in prompts)
        self._last_ids = prompts[0]
        return unique_tokens(prompts) + forced - shared

    def plan(self, encoded: Sequence[Encoded]) -> JobPlan:
        """What `score` would run for this, after all that was planned before; without rationales and what follows."""
        return self._planner.plan([item.array for item in encoded], [item.labels_of_prompt for item in encoded])

    def describe(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a run's record says of the model and the software.

        before: what a judge said of itself then, to be compared with: its hash of the model holds as long as no file
            has another size or time. Without it, a judge that has no weights does not read the model to hash it.
        """
        from preftree.engine.arithmetic import fingerprint

        target = self._planner.target
        is_same = before is not None and before.get("model_files") == self._model_files
        if self._model_sha256 is None and before is not None:
            self._model_sha256 = before["model_sha256"] if is_same else self._checkpoint.fingerprint()
        has_weights = self._engine is not None or before is not None
        revision = {"revision": self._checkpoint.revision} if self._checkpoint.revision else {}
        return {
            "model": self._checkpoint.name,
            **revision,
            "model_sha256": self._model_sha256,
            "model_files": self._model_files,
            "arithmetic": fingerprint(str(target.device), target.dtype_name) if has_weights else None,
            "device": str(target.device),
            "devices": [str(device) for device in target.devices] if len(target.devices) > 1 else None,
            "device_name": target.device_name,
            "dtype": target.dtype_name,
            "instructions": target.instructions,
            "threads": _threads(target.device),
            "rendering": self._rendering,
            "batch_tokens": self.window_tokens,
            "layers": "streamed" if target.streams_layers else "resident",
            "prefix_cache": self._prefix_cache,
            "versions": {"python": platform.python_version(), **versions()},
        }


def _threads(device: torch.device) -> int | None:
    """Of a CPU, where the bits of labels depend on them; None elsewhere."""
    import torch

    return torch.get_num_threads() if device.type == "cpu" else None
