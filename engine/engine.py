"""The engine: load, plan, score, reward."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.engine.decoding.call import RationaleScores
from preftree.engine.decoding.decoder import Progress
from preftree.engine.decoding.runner import GenerationRunner, Question
from preftree.engine.device import Target, choose_target
from preftree.engine.device_names import Devices
from preftree.engine.errors import InputError
from preftree.engine.generation import Generation, Sampling
from preftree.engine.memory import make_room
from preftree.engine.model.model import Model
from preftree.engine.opening import open_weights
from preftree.engine.openmp import dismiss_team
from preftree.engine.planner import Planner
from preftree.engine.planning.estimate import JobPlan
from preftree.engine.planning.lookups import Labels
from preftree.engine.requests import (
    NO_LABELS,
    Prompts,
    check_reads_labels,
    check_reads_rewards,
    too_long,
)
from preftree.engine.results import LabelScores, Rewards
from preftree.engine.scoring.joint import JointCalls
from preftree.engine.scoring.readout import LabelReadout, RewardReadout
from preftree.engine.scoring.runner import Runner
from preftree.engine.texts import Text, encoded, encoded_prompts


class Engine:
    """A model, ready to score. One engine serves any number of calls; results never depend on earlier ones.

    An engine belongs to its process. It pickles as what it was loaded with, and whoever unpickles it loads the model
    there: weights are too large to travel, and threads and GPU memory cannot. So it may be handed to processes that are
    spawned; one that was forked is told to load its own.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = "auto",
        batch_tokens: int | None = None,
        kv_memory: int | None = None,
        memory_fraction: float | None = None,
        devices: Devices | None = None,
        stream_layers: str = "auto",
    ) -> None:
        """Read the weights of `checkpoint`; options and errors as in `load`."""
        self.checkpoint = checkpoint
        self._asked: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "batch_tokens": batch_tokens,
            "kv_memory": kv_memory,
            "memory_fraction": memory_fraction,
            "stream_layers": stream_layers,
            "devices": devices,
        }
        self._process = os.getpid()
        limits = batch_tokens, memory_fraction, stream_layers, devices
        self._target = target = choose_target(checkpoint.config, device, dtype, *limits)
        self.device = target.device
        self.dtype = target.dtype
        config, is_on_cpu = checkpoint.config, target.device.type == "cpu"
        model = Model(config, open_weights(checkpoint.weights, config, target), target)
        runner = Runner(config, model, target)
        self._parts: tuple[Model, Runner, JointCalls] | None = model, runner, JointCalls(config, runner, is_on_cpu)
        self._kv_memory = kv_memory
        if is_on_cpu:
            dismiss_team()  # another thread may be the one that scores

    @classmethod
    def load(
        cls,
        model: str = "embedded",
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = "auto",
        batch_tokens: int | None = None,
        kv_memory: int | None = None,
        memory_fraction: float | None = None,
        stream_layers: str = "auto",
        devices: Devices | None = None,
        offline: bool = False,
    ) -> Engine:
        """Load a model.

        Args:
            model: "embedded", a directory in Hugging Face's layout, a .gguf file, or a name on the Hugging Face hub.
            device: "cpu", "cuda" or "cuda:1", or a torch.device; None for a GPU that can run the model, else the CPU.
            dtype: "float32", "bfloat16" or "float16", or torch's; for weights and matrix products in 8 bits "int8" on a
                CPU, "fp8" (e4m3) on a GPU of compute capability 8.9 or newer; a CPU emulates fp8, slowly. "auto" or
                None is bfloat16 on a GPU and on a CPU with AMX or, on one that has no AMX, avx512_bf16; else float32.
            batch_tokens: unique tokens in one forward pass; None for as many as run well and fit. Memory grows with it,
                results do not depend on it.
            kv_memory: bytes of keys and values that decoding may keep; None for 4 GiB of a CPU's memory or a quarter of
                it, most of what is free on a GPU. Results do not depend on it.
            memory_fraction: how much of a GPU's whole memory weights, batches, keys and values may take together, above
                0 and at most 1; None for 0.85 of what is free. For a GPU that a trainer uses, too.
            stream_layers: "always" keeps layers in the host's memory (of a GPU) or in a temporary file (of a CPU) and
                copies one after the other to where they are computed, in every forward pass; "never" does not; "auto"
                does where the weights do not fit beside a batch. Results do not depend on it.
            devices: several equal GPUs of this machine that share the layers of a model, in place of `device`: "0,1",
                "cuda:0,cuda:1" or a list. Results are those of one device; "cpu,cpu" shows it anywhere.
            offline: a model that is named as on the hub comes from the cache; nothing is downloaded.

        Raises:
            ModelError: the model is missing, broken or not supported.
            InputError: an option is out of range, or a device is missing, too old or too small.
        """
        return cls(
            open_checkpoint(model, offline),
            device=device,
            dtype=dtype,
            batch_tokens=batch_tokens,
            kv_memory=kv_memory,
            memory_fraction=memory_fraction,
            stream_layers=stream_layers,
            devices=devices,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Engine, **self._asked), (self.checkpoint,)

    def close(self) -> None:
        """Give the memory of weights and caches back. The engine cannot run afterwards."""
        self._parts = None
        make_room(*self._target.devices)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _model(self) -> Model:
        return self._open[0]

    @property
    def _runner(self) -> Runner:
        return self._open[1]

    @property
    def _joint(self) -> JointCalls:
        return self._open[2]

    @property
    def _open(self) -> tuple[Model, Runner, JointCalls]:
        if self._parts is None:
            raise InputError("this engine is closed; load it again")
        if self._process != os.getpid():  # torch's threads, and whoever held a lock, stayed behind
            raise InputError(
                "this engine was loaded before its process forked, and cannot run in the child; load it there, or "
                'start processes with multiprocessing.get_context("spawn")'
            )
        return self._parts

    @property
    def device_name(self) -> str | None:
        """What a GPU calls itself."""
        return self._target.device_name

    @property
    def dtype_name(self) -> str:
        """Of matrix products: "int8" or "fp8", or that of `dtype`, in which everything else is computed."""
        return self._target.dtype_name

    @property
    def target(self) -> Target:
        """Where it runs, with the present batch budget."""
        return replace(self._target, batch_tokens=self.batch_tokens)

    @property
    def batch_tokens(self) -> int:
        """Unique tokens in one forward pass. Halved where memory runs out."""
        return self._runner.batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, value: int) -> None:
        self._runner.batch_tokens = value

    def plan(self, prompts: Prompts, labels: Sequence[Labels] | None = None) -> JobPlan:
        """What a first call of `score` would run, without running it, or one of `reward`, which has no labels.

        `Planner` says it without loading weights.
        """
        return Planner(self.checkpoint, target=self.target).plan(prompts, labels)

    def score(
        self,
        prompts: Sequence[Text],
        labels: Sequence[str] | Sequence[Sequence[Text]],
        *,
        prefix_cache: bool = True,
        skip_too_long: bool = False,
        with_tokens: bool = False,
    ) -> LabelScores:
        """Log-probabilities of labels after prompts.

        The numbers of a prompt are the same bits whatever else is in the call, in any order and at any batch_tokens.
        Calls of several threads that wait for each other are run together.

        Args:
            prompts: at least one; a text, which is encoded with the model's tokenizer (with BOS where that adds one,
                without chat template), or token ids, which are taken as they are.
            labels: texts that are the labels of all prompts; or of each prompt its labels, texts or lists of one or
                more token ids. A text stands for the ids that it adds after the prompt.
            prefix_cache: keep the K/V of what all prompts begin with, within this call and for the next.
            skip_too_long: give prompts beyond the model's context nan, and name them in `LabelScores.too_long`, instead
                of failing the call.
            with_tokens: add `LabelScores.tokens`: log-probabilities of a label's tokens, and whether greedy decoding
                would write it. Costs one more product with the output matrix.

        Raises:
            InputError: ids outside the vocabulary, a prompt beyond the model's context, a label that merges with the
                end of its prompt; the message names the prompt. Or a reward model.
        """
        check_reads_labels(self.checkpoint.config)
        if not len(prompts):
            raise InputError("there are no prompts to score")
        joint = self._joint
        ids, options = encoded(self.checkpoint.tokenizer, prompts, labels)
        skipped = too_long(ids, options, self.checkpoint.config) if skip_too_long else []
        if not skipped:
            return joint.score((ids, options), prefix_cache, with_tokens)
        kept = sorted(set(range(len(ids))) - set(skipped))
        asked = [ids[place] for place in kept], [options[place] for place in kept]
        scores = joint.score(asked, prefix_cache, with_tokens)
        return scores.with_gaps(skipped, max(map(len, options)))

    def score_stream(
        self, calls: Iterable[tuple[Prompts, Sequence[Labels]]], *, prefix_cache: bool = True
    ) -> Iterator[LabelScores]:
        """The results of `score(prompts, labels)` for each of `calls`, in order; a call may be without prompts.

        On a GPU, calls are taken and planned while earlier ones run: tokenising as one goes costs no time where it
        takes less than running what was tokenised. On a CPU they are taken one after the other, and run together with
        those of other threads.

        Args:
            calls: prompts and labels, as token ids.
            prefix_cache: see `score`.
        """
        check_reads_labels(self.checkpoint.config)
        if not self._runner.is_ahead:
            yield from (self._joint.score(call, prefix_cache) for call in calls)
        else:
            asked = ((prompts, LabelReadout(labels)) for prompts, labels in calls)
            for call in self._runner.run(asked, prefix_cache):
                yield call.readout.scores(call.cost)

    def reward(self, prompts: Sequence[Text], *, prefix_cache: bool = True, skip_too_long: bool = False) -> np.ndarray:
        """What a reward model says of whole texts: its scalar after the last token of each.

        A reward is the same bits whatever else is in the call, as labels of `score` are. Which token is the last is
        the caller's affair: nothing is padded, and nothing is looked for (see `Checkpoint.pooling_hint`).

        Args:
            prompts: texts, or token ids, as in `score`: of a chat, prompt and response in the model's template.
            prefix_cache: see `score`.
            skip_too_long: give texts beyond the model's context nan, instead of failing the call.

        Returns:
            [prompts] float32.

        Raises:
            InputError: as in `score`. Or a language model.
        """
        check_reads_rewards(self.checkpoint.config)
        if not len(prompts):
            raise InputError("there are no prompts to score")
        joint = self._joint
        ids = encoded_prompts(self.checkpoint.tokenizer, prompts)
        skipped = too_long(ids, [NO_LABELS] * len(ids), self.checkpoint.config) if skip_too_long else []
        rewards = np.full(len(ids), np.nan, np.float32)
        kept = sorted(set(range(len(ids))) - set(skipped))
        rewards[kept] = joint.reward([ids[place] for place in kept], prefix_cache).reward
        return rewards

    def reward_stream(self, calls: Iterable[Prompts], *, prefix_cache: bool = True) -> Iterator[Rewards]:
        """Rewards for each of `calls`, as `reward` gives them, in order and run as those of `score_stream`.

        Args:
            calls: prompts as token ids; a call may be without any.
            prefix_cache: see `score`.
        """
        check_reads_rewards(self.checkpoint.config)
        if not self._runner.is_ahead:
            yield from (self._joint.reward(prompts, prefix_cache) for prompts in calls)
        else:
            asked = ((prompts, RewardReadout(len(prompts))) for prompts in calls)
            for call in self._runner.run(asked, prefix_cache):
                yield call.readout.result(call.cost)

    def generate(
        self,
        prompts: Prompts,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        n: int = 1,
        stop: Sequence[str] = (),
        seed: int = 0,
    ) -> list[list[Generation]]:
        """Continuations of prompts. Any control token ends one.

        A sequence is the same whatever else is in the call, in any order and at any memory.

        Args:
            prompts: token ids of each.
            max_new_tokens: as in `preftree.Sampling`, as are the others.
            temperature: see there.
            top_k: see there.
            top_p: see there.
            n: see there.
            stop: see there.
            seed: see there.

        Returns:
            `[prompts][n]` continuations.

        Raises:
            InputError: an option is out of range, or a prompt, which is named, has no room in the model's context or in
                kv_memory.
        """
        sampling = Sampling(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            n=n,
            stop=stop,
            seed=seed,
        )
        (reasoned,) = self._generation_runner().run([(prompts, None, None)], sampling, None)
        return reasoned.generations

    def generate_and_score(
        self,
        prompts: Prompts,
        endings: Prompts,
        labels: Sequence[Labels],
        sampling: Sampling | None = None,
        continuations: Sequence[Prompts] | None = None,
    ) -> RationaleScores:
        """Continue prompts, append an ending to each continuation, and score labels after it, in one go.

        What is appended is all that is run in the second step: K/V of prompt and continuation are there.

        Args:
            prompts: token ids of each.
            endings: token ids to append to the continuations of each prompt, at least one.
            labels: of each prompt, as token ids.
            sampling: of the continuations; None for `Sampling()`.
            continuations: `[prompts][n]` token ids to run instead of generating any. The scores are the same bits as
                when these were generated, which those of `score` are not: prompts are not run token by token.

        Raises:
            InputError: as in `generate` and `score`.
        """
        asked = prompts, endings, labels, continuations
        (reasoned,) = self.generate_and_score_stream([asked], sampling or Sampling())
        return reasoned

    def generate_and_score_stream(
        self, calls: Iterable[Question], sampling: Sampling, progress: Progress | None = None
    ) -> Iterator[RationaleScores]:
        """The results of `generate_and_score` for each of `calls`, in order; a call may be without prompts.

        Sequences of later calls take the places of those that are done.

        Args:
            calls: prompts, endings and labels; continuations, too, where they are not to be generated.
            sampling: of the continuations.
            progress: called after each step with the tokens it generated and the sequences it finished.
        """
        return self._generation_runner().run(calls, sampling, progress)

    def _generation_runner(self) -> GenerationRunner:
        check_reads_labels(self.checkpoint.config)
        return GenerationRunner(self.checkpoint, self._model, self.target, self._kv_memory)
