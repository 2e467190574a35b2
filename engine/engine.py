"""The engine: load, plan, score."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.loading.checkpoint import Checkpoint, open_checkpoint
from engine.planning.batching import schedule
from engine.planning.estimate import JobPlan, MemoryModel, estimate
from engine.planning.prefix import PrefixPolicy
from engine.requests import Labels, batch_tokens_of, checked_prompts, continuation_tokens, device_of, dtype_of
from engine.running.model import Model
from engine.running.prefix_cache import PrefixCache
from engine.running.scoring import compute_prefix, score_batch
from engine.running.weights import ResidentWeights
from kernels.ops import implementation


@dataclass(frozen=True)
class LabelScores:
    """What the model says of every label of every prompt.

    logprob: [prompts, labels] float32, log-probability in nats of the label after the prompt under the full vocabulary;
        those of a longer label's tokens are summed. nan where a prompt has fewer labels than another.
    logit: [prompts, labels] float32, raw logit of single-token labels, nan for longer ones.
    label_mass: [prompts] float32, probability that the answer begins with any of the labels.
    prompt_tokens: tokens of all prompts. rows: unique tokens run through the model, a new prefix cache included.
    batches: forward passes over prompts. seconds: wall time.
    """

    logprob: np.ndarray
    logit: np.ndarray
    label_mass: np.ndarray
    prompt_tokens: int
    rows: int
    batches: int
    seconds: float


class Planner:
    """What an engine would run, call after call, from the configuration alone: no weight is read."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        prefix_cache: bool = True,
    ) -> None:
        """Options as in `Engine.load`."""
        ops = implementation(device_of(device))
        self._config = checkpoint.config
        layout = ops.plan_layout(self._config.group_size, self._config.head_dim, dtype_of(dtype))
        self._memory = MemoryModel(dtype_of(dtype).itemsize, layout.tile_rows, ops.GATHERED_KEYS)
        self._prefixes = PrefixPolicy() if prefix_cache else None
        self.batch_tokens = batch_tokens_of(batch_tokens)

    def plan(self, prompts: Sequence[Sequence[int]], labels: Sequence[Labels]) -> JobPlan:
        """Prompt tokens, unique tokens, batches and memory of `Engine.score(prompts, labels)`. Raises InputError."""
        ids = checked_prompts(prompts, labels, self._config)
        planned = schedule(ids, continuation_tokens(labels), self.batch_tokens, self._prefixes)
        if self._prefixes and planned.new_prefix is not None:
            self._prefixes.keep(planned.new_prefix)
        return estimate(self._config, self._memory, ids, planned)


class Engine:
    """A model, ready to score. One engine serves any number of calls; results never depend on earlier ones."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        """Read the weights of `checkpoint`; options and errors as in `load`."""
        self.checkpoint = checkpoint
        self.device = device_of(device)
        self.dtype = dtype_of(dtype)
        self.batch_tokens = batch_tokens_of(batch_tokens)
        ops = implementation(self.device)
        weights = ResidentWeights(checkpoint.weights, checkpoint.config, self.device, self.dtype, ops)
        self._model = Model(checkpoint.config, weights, self.device, self.dtype, ops)
        self._prefixes = PrefixPolicy()
        self._prefix_cache: PrefixCache | None = None

    @classmethod
    def load(
        cls,
        model: str = "embedded",
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
    ) -> Engine:
        """Load a model.

        model: "embedded", a directory in Hugging Face's layout, or a .gguf file. device: "cpu" (None: the best there
        is). dtype: "float32", "bfloat16" or "float16" (None: float32 on a CPU). batch_tokens: unique tokens in one
        forward pass; memory grows with it, results do not depend on it.

        Raises ModelError for a model that is missing, broken or not supported, InputError for an option out of range.
        """
        return cls(open_checkpoint(model), device=device, dtype=dtype, batch_tokens=batch_tokens)

    def plan(self, prompts: Sequence[Sequence[int]], labels: Sequence[Labels]) -> JobPlan:
        """What a first call of `score` would run, without running it. `Planner` says it without loading weights."""
        planner = Planner(
            self.checkpoint,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            batch_tokens=self.batch_tokens,
        )
        return planner.plan(prompts, labels)

    def score(
        self, prompts: Sequence[Sequence[int]], labels: Sequence[Labels], *, prefix_cache: bool = True
    ) -> LabelScores:
        """Log-probabilities of label tokens after prompts.

        prompts: token ids of each prompt, at least one. labels: for each prompt its labels, each a list of one or more
        token ids. prefix_cache: keep the K/V of what all prompts begin with, within this call and for the next.

        The numbers of a prompt are the same bits whatever else is in the call, in any order and at any batch_tokens.
        Raises InputError naming the prompt for ids outside the vocabulary or prompts beyond the model's context.
        """
        started = time.perf_counter()
        ids = checked_prompts(prompts, labels, self.checkpoint.config)
        planned = schedule(
            ids, continuation_tokens(labels), self.batch_tokens, self._prefixes if prefix_cache else None
        )
        if planned.new_prefix is not None:
            self._prefix_cache = compute_prefix(self._model, planned.new_prefix)
            self._prefixes.keep(planned.new_prefix)
        shape = (len(ids), max(len(options) for options in labels))
        logprob, logit = np.full(shape, np.nan), np.full(shape, np.nan)
        for batch in planned.batches:
            scores = score_batch(
                self._model,
                [ids[index] for index in batch.prompts],
                [labels[index] for index in batch.prompts],
                self._prefix_cache,
                planned.skipped,
            )
            columns = slice(scores.logprob.shape[1])
            logprob[batch.prompts, columns], logit[batch.prompts, columns] = scores.logprob, scores.logit
        return LabelScores(
            logprob=logprob.astype(np.float32),
            logit=logit.astype(np.float32),
            label_mass=_label_mass(logprob, labels),
            prompt_tokens=sum(len(prompt) for prompt in ids),
            rows=planned.rows,
            batches=len(planned.batches),
            seconds=time.perf_counter() - started,
        )


def _label_mass(logprob: np.ndarray, labels: Sequence[Labels]) -> np.ndarray:
    """Sum of the labels' probabilities. A label that begins with another one ("1", "10") is part of that one's."""
    mass = np.empty(len(labels), dtype=np.float32)
    for index, options in enumerate(labels):
        column_of = {tuple(label): column for column, label in enumerate(options)}
        outermost = [
            column
            for label, column in column_of.items()
            if not any(label[:length] in column_of for length in range(1, len(label)))
        ]
        mass[index] = np.exp(logprob[index, outermost]).sum()
    return mass
