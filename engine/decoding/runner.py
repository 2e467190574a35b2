"""The engine's decoding: what callers ask becomes calls of a decoder, and its results come back in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Several

from preftree.engine.checkpoint import Checkpoint
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.decoding.budget import KvBudget
from preftree.engine.decoding.call import RationaleCall, RationaleScores
from preftree.engine.decoding.decoder import Decoder, Progress
from preftree.engine.decoding.stopping import StopRule
from preftree.engine.device import Target
from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.engine.model.model import Model
from preftree.engine.planning.lookups import Labels
from preftree.engine.requests import Prompts, checked_continuations, checked_starts, checked_tails
from preftree.engine.scoring.on_device import on_device

# Prompts, what is appended to the continuations of each, and the labels looked up after that; None for neither. Then
# the continuations of each prompt, where they are given and not to be generated.
Question = (
    tuple[Prompts, Prompts | None, Several[Labels] | None]
    | tuple[Prompts, Prompts | None, Several[Labels] | None, Several[Prompts] | None]
)


class GenerationRunner:
    """Continues prompts and scores labels after the continuations."""

    def __init__(self, checkpoint: Checkpoint, model: Model, target: Target, kv_memory: int | None) -> None:
        """kv_memory: bytes that K/V may take, see `KvBudget.choose`."""
        self._checkpoint = checkpoint
        self._model = model
        self._target = target
        self._kv_memory = kv_memory
        control = checkpoint.tokenizer.control
        # Some vocabularies hold runs of blanks as added tokens; those are text.
        self._control_ids = frozenset(index for token, index in control.items() if token.strip())

    def run(
        self, questions: Iterable[Question], sampling: Sampling, progress: Progress | None
    ) -> Iterator[RationaleScores]:
        """The answers, in order. Raises InputError for what cannot be asked."""
        config, tokenizer = self._checkpoint.config, self._checkpoint.tokenizer
        budget = KvBudget.choose(config, self._target, self._kv_memory)
        store = budget.open_store(config, self._target)
        stops = StopRule(self._control_ids, sampling.stop, tokenizer.decode)
        decoder = Decoder(self._model, self._target, store, sampling, stops, budget.prefill_rows)
        calls = (self._call(question, sampling, budget) for question in questions)
        running = decoder.run(calls, progress)
        while True:
            with on_device(self._target):
                call = next(running, None)
            if call is None:
                return
            yield call.result(tokenizer.decode)

    def _call(self, question: Question, sampling: Sampling, budget: KvBudget) -> RationaleCall:
        config = self._checkpoint.config
        prompts, endings, labels, *rest = question
        ids = checked_starts(prompts, config)
        tails = None
        if endings is not None and labels is not None:
            if not len(ids) == len(endings) == len(labels):
                counts = f"endings for {len(endings)} and labels for {len(labels)}"
                raise InputError(f"there are {len(ids)} prompts, but {counts}")
            tails = checked_tails(endings, labels, config)
        continuations = rest[0] if rest else None
        given = None if continuations is None else checked_continuations(continuations, len(ids), sampling, config)
        call = RationaleCall(ids, tails, labels or [], sampling.n, given)
        for index in range(len(ids)):
            _check_room(call, index, sampling, config, budget)
        return call


def _check_room(call: RationaleCall, index: int, sampling: Sampling, config: ModelConfig, budget: KvBudget) -> None:
    """InputError where a prompt, its longest continuation and what comes after that have no room."""
    length, own = len(call.prompts[index]), call.own_slots(index, sampling)
    needed = length + own
    if needed > config.max_context:
        raise InputError(
            f"prompt {index} has {length:,} tokens; with up to {own:,} after it that is "
            f"{needed - config.max_context:,} more than the model's context of {config.max_context:,}"
        )
    if config.rope_variant(needed):
        raise InputError(
            f"prompt {index} may become {needed:,} tokens long, but beyond {config.rope.original_context:,} "
            "this model's rotary embedding changes with the length; generate less, or shorten the prompt"
        )
    if needed > budget.slots:
        raise InputError(
            f"kv_memory keeps {budget.slots:,} tokens, but prompt {index} needs {needed:,} with what is "
            f"generated after it; set kv_memory to {(needed + 1) * budget.slot_bytes:,} bytes or more, or "
            "generate less"
        )
