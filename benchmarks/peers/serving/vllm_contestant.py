"""vLLM for CPUs, with its prefix cache. Runs in an environment of its own and imports nothing of preftree."""

from __future__ import annotations

import os
import time
from typing import Any

# In this process, so that its memory is all there is and nothing passes between processes.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# GiB, taken at once, all of it: they are most of what the process holds.
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")

# Tried on two cores with AMX. Blocks of 32 tokens, the smallest there are, share more of a prefix than the default of
# 128: twice as fast with 22 prompts a pair. Uncompiled (enforce_eager) it was half as fast. Steps may be shorter than
# what is loaded, see `answer`.
OPTIONS = {"block_size": 32, "max_num_batched_tokens": 8192}
_WARM_UP = list(range(100, 164))


class VllmContestant:
    def __init__(self, job: dict[str, Any]) -> None:
        import vllm

        self._library = vllm
        self._llm = vllm.LLM(
            model=job["directory"],
            dtype=job["dtype"],
            enable_prefix_caching=True,
            disable_log_stats=True,
            **OPTIONS,
        )
        self._workloads = job["workloads"]
        self._logprobs([_WARM_UP], [[[100], [101]]])
        cache = {"kv_cache_gib": os.environ["VLLM_CPU_KVCACHE_SPACE"]}
        self.facts = {"version": vllm.__version__, "options": OPTIONS | cache}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        columns, setting = self._workloads[request["workload"]], request["setting"]
        # Read at every step; as an option it could be set when loading alone, which takes a minute.
        scheduler = self._llm.llm_engine.engine_core.engine_core.scheduler
        scheduler.max_num_scheduled_tokens = setting["step_tokens"]
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not empty its prefix cache")
        found: dict[int, list[float]] = {}
        started = time.perf_counter()
        for wave in setting["waves"]:
            ids, labels = ([columns[name][place] for place in wave] for name in ("ids", "labels"))
            found |= zip(wave, self._logprobs(ids, labels), strict=True)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "logprobs": [found[place] for place in sorted(found)]}

    def _logprobs(self, prompts: list[list[int]], labels: list[list[list[int]]]) -> list[list[float]]:
        """Of the single-token labels of each prompt."""
        wanted = [[token for (token,) in options] for options in labels]
        sampling = [
            self._library.SamplingParams(
                max_tokens=1, temperature=0, logprobs=len(tokens), logprob_token_ids=tokens, detokenize=False
            )
            for tokens in wanted
        ]
        inputs = [{"prompt_token_ids": ids} for ids in prompts]
        outputs = self._llm.generate(inputs, sampling, use_tqdm=False)
        scores = (output.outputs[0].logprobs[0] for output in outputs)
        return [[score[token].logprob for token in tokens] for score, tokens in zip(scores, wanted, strict=True)]


def open_contestant(job: dict[str, Any]) -> VllmContestant:
    return VllmContestant(job)
