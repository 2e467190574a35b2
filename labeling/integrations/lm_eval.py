"""A model for lm-evaluation-harness: all requests of a call are one trie, and no batch changes a number.

The harness finds the models that its own code names and those that are registered. Importing this module registers
`preftree`; `main` is the harness' command line after that.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from preftree.engine.errors import InputError, ModelError, PreftreeError, UsageError
from preftree.engine.generation import Generation, Sampling
from preftree.labeling.judge.judge import Judge
from preftree.labeling.options.model import ModelOptions
from preftree.labeling.terminal import one_line
from preftree.labeling.values import suggestion

_MODEL_ARGS = ("device", "devices", "dtype", "batch_tokens", "kv_memory", "memory_fraction", "stream_layers")
_MAX_GEN_TOKS = 256  # the harness' default for every model
# A request to score: what the harness caches it under, and token ids of context and continuation.
TokenRequest = tuple[tuple[str, str] | None, list[int], list[int]]

logger = logging.getLogger("preftree")


@register_model("preftree")
class PreftreeLM(TemplateLM):
    """`--model preftree`.

    Texts are tokenized as the harness' own `hf` model does, control strings in them included: that is how the harness
    writes what a chat template rendered.
    """

    def __init__(
        self,
        pretrained: str = "embedded",
        max_length: int | None = None,
        seed: int = 0,
        batch_size: object = None,
        max_batch_size: object = None,
        **options: Any,
    ) -> None:
        """Load the model.

        Args:
            pretrained: "embedded", a Hugging Face directory, or a .gguf file.
            max_length: tokens of context to use; the model's own by default, which is also the most.
            seed: of sampled generations.
            batch_size: ignored, as is max_batch_size; the harness always gives one, and batches are cut by tokens.
            max_batch_size: see batch_size.
            options: device, devices, dtype, batch_tokens, kv_memory, memory_fraction and stream_layers, as in
                `preftree.Engine.load`.

        Raises:
            PreftreeError: the model cannot be loaded, or an option is unknown or out of range.
        """
        super().__init__()
        for name in options.keys() - {*_MODEL_ARGS}:
            known = (*_MODEL_ARGS, "pretrained", "max_length", "seed")
            raise UsageError(f"there is no option {name!r} for model preftree; {suggestion(name, known)}")
        checked = ModelOptions(**options)
        loaded = {name: getattr(checked, name) for name in options}
        self._judge = Judge.load(pretrained, rendering="plain", **loaded)
        self._engine = self._judge.engine
        self._tokens = self._judge.tokenizer
        self._seed = seed
        context = self._engine.checkpoint.config.max_context
        if max_length is not None and not (isinstance(max_length, int) and 1 <= max_length <= context):
            raise UsageError(f"max_length is {max_length!r}; it must be a whole number from 1 to {context:,}")
        self.max_length = max_length or context

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        if self._tokens.eos_id is None:
            raise ModelError(f"model {self._judge.model} has no end-of-sequence token, which the harness needs")
        return self._tokens.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context."""
        return self.eot_token_id if self._tokens.bos_id is None else self._tokens.bos_id

    @property
    def tokenizer_name(self) -> str:
        """For the names of the harness' request caches."""
        return self._judge.model.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes into its results: model hash, arithmetic, device, type and versions."""
        return {"preftree": self._judge.describe()}

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **others: Any) -> list[int]:
        """Token ids. With a BOS where the tokenizer adds one, unless `string` begins with it."""
        pieces = self._tokens.split_control(string)
        if add_special_tokens is not False and pieces[:1] != [self._tokens.bos_id]:
            pieces = [*self._tokens.plain(""), *pieces]
        return self._tokens.encode(pieces)

    def _loglikelihood_tokens(self, requests: Sequence[TokenRequest], **others: Any) -> list[tuple[float, bool]]:
        if not requests:
            return []
        contexts = [self._fitting(*request) for request in requests]
        cut = sum(len(kept) < len(context) for kept, (_, context, _) in zip(contexts, requests, strict=True))
        if cut:
            logger.warning(f"{cut:,} contexts were longer than {self.max_length:,} tokens and lost their beginnings")
        scores = self._engine.score(contexts, [[request[2]] for request in requests], with_tokens=True)
        assert scores.tokens is not None
        logprobs = scores.logprob[:, 0].tolist()
        found = [(logprob, label.is_greedy) for logprob, (label,) in zip(logprobs, scores.tokens, strict=True)]
        for (texts, _, _), answer in zip(requests, found, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return found

    def _fitting(self, texts: tuple[str, str] | None, context: list[int], continuation: list[int]) -> list[int]:
        """The end of a context that has room before its continuation, whose last token is never read."""
        if not 0 < len(continuation) <= self.max_length:
            shown = "" if texts is None else f" {texts[1]!r:.60}"
            span = f"it must have from 1 to {self.max_length:,}"
            raise InputError(f"continuation{shown} has {len(continuation):,} tokens; {span}")
        return context[-(self.max_length + 1 - len(continuation)) :]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts, in windows of the context's length, each token once."""
        windows: list[TokenRequest] = []
        ends = []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            parts = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
            windows += [(None, *make_disjoint_window(part)) for part in parts]
            ends.append(len(windows))
        logprobs = [logprob for logprob, _ in self._loglikelihood_tokens(windows)]
        totals = [sum(logprobs[first:end]) for first, end in zip([0, *ends], ends, strict=False)]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Continuations up to a stop string or a control token. Requests that are sampled alike are one call."""
        groups = defaultdict(list)
        for place, request in enumerate(requests):
            groups[self._sampling(request.args[1])].append(place)
        found = [""] * len(requests)
        for sampling, places in groups.items():
            contexts = [requests[place].args[0] for place in places]
            for place, text in zip(places, self._continued(contexts, sampling), strict=True):
                found[place] = text
                self.cache_hook.add_partial("generate_until", requests[place].args, text)
        return found

    def _continued(self, contexts: Sequence[str], sampling: Sampling) -> Iterator[str]:
        """A continuation of each context; of one that comes again another sample."""
        room = self.max_length - sampling.max_new_tokens
        if room < 1:
            raise InputError(f"no room for {sampling.max_new_tokens:,} new tokens: max_length is {self.max_length:,}")
        repeats = Counter(contexts)
        drawn = sampling if sampling.is_greedy else replace(sampling, n=max(repeats.values()))
        prompts = [self.tok_encode(context)[-room:] for context in repeats]
        samples = self._engine.generate(prompts, **vars(drawn))
        numbers: Counter[str] = Counter()
        written: dict[str, list[Generation]] = dict(zip(repeats, samples, strict=True))
        for context in contexts:
            one = written[context][numbers[context] % drawn.n]
            numbers[context] += 1
            yield one.text + one.rest

    def _sampling(self, asked: Mapping[str, Any]) -> Sampling:
        given = dict(normalize_gen_kwargs(dict(asked), _MAX_GEN_TOKS))
        stop = tuple(text for text in given.pop("until") if text)
        sampled = given.pop("do_sample")
        drawn = {name: given.pop(name, None) for name in ("temperature", "top_k", "top_p")}
        length = given.pop("max_gen_toks")
        if given:
            raise InputError(
                f"model preftree has no generation argument {', '.join(sorted(given))}; it takes until, max_gen_toks, "
                "do_sample, temperature, top_k and top_p"
            )
        if not sampled or not drawn["temperature"]:
            drawn = {}
        return Sampling(max_new_tokens=length, stop=stop, seed=self._seed, **drawn)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's source, for the harness' records."""
        if not chat_template:
            return None
        if self._engine.checkpoint.chat_template is None:
            raise ModelError(f"model {self._judge.model} has no chat template; leave --apply_chat_template out")
        return self._engine.checkpoint.chat_template.source

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text. add_generation_prompt: False for one whose last message is to be continued."""
        self.chat_template(True)
        template = self._engine.checkpoint.chat_template
        assert template is not None
        messages = [(message["role"], message["content"]) for message in chat_history]
        start = "" if add_generation_prompt else messages.pop()[1]
        try:
            pieces = template.conversation(self._tokens, messages, start)
        except PreftreeError as error:
            raise type(error)(str(error).partition("; use --plain")[0] + "; leave --apply_chat_template out") from None
        return "".join(piece if isinstance(piece, str) else self._tokens.decode([piece]) for piece in pieces)


def main() -> int:
    """The harness' command line, which knows `--model preftree` now. Returns its exit code."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except PreftreeError as error:
        print(f"preftree: {one_line(str(error))}", file=sys.stderr)
        return 1
    return 0
