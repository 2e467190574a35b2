"""What is installed, and whether a model is fit to label with (`doctor_lines`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from preftree.engine.errors import PreftreeError
from preftree.labeling.judge.installed import Finding, check_default_model, check_model, check_software
from preftree.labeling.judge.judge import Judge
from preftree.labeling.judge.reward_model import RewardModel, open_model
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.terminal import WIDTH, one_line
from preftree.labeling.types import Message, Pair, RewardRequest

_SAMPLE = Pair("doctor", (Message("user", "Which is better?"),), "this", "that")
_INDENT = 24  # of a detail that goes on
_PRINCIPLES = ("The response should be short.",)


class Doctor:
    """Looks at the software, then at a model.

    Attributes:
        failed: whether anything was wrong so far.
        findings: so far.
    """

    def __init__(self, model: str | None, offline: bool = False) -> None:
        self._model, self._offline = model, offline
        self.failed = False
        self.findings: list[Finding] = []

    def lines(self) -> Iterator[str]:
        """One line a finding, as it is made: status, name, detail."""
        for finding in self._findings():
            self.failed |= finding.status == "failed"
            self.findings.append(finding)
            yield "\n".join(
                wrap(
                    f"{finding.status:<6}  {finding.name:<14}  {one_line(finding.detail)}",
                    WIDTH,
                    subsequent_indent=" " * _INDENT,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return {"ok": not self.failed, "findings": [asdict(one) for one in self.findings]}

    def _findings(self) -> Iterator[Finding]:
        yield from check_software()
        if self._model is None:
            yield check_default_model()
            return
        try:
            yield from check_model(self._model, self._offline)
            is_reward_model = open_model(self._model, self._offline).config.is_reward_model
        except PreftreeError as error:
            yield Finding("model", str(error), "failed")
            return
        try:
            kind = RewardModel if is_reward_model else Judge
            scorer = kind.load(self._model, weights=False, offline=self._offline)
            yield from _reward_input(scorer) if isinstance(scorer, RewardModel) else _prompt(scorer)
        except PreftreeError as error:
            yield Finding("input" if is_reward_model else "labels", str(error), "failed")


def _reward_input(scorer: RewardModel) -> Iterator[Finding]:
    """What a reward model reads."""
    sets = _PRINCIPLES if scorer.follows_principles else ()
    encoded = scorer.encode(RewardRequest(_SAMPLE.prompt, _SAMPLE.response_a, sets))
    yield _bos(scorer, encoded.ids)
    yield Finding("input", scorer.describe()["layout"])
    yield Finding("labels", "none: it gives rewards")


def _prompt(scorer: Judge) -> Iterator[Finding]:
    """How a prompt of the default template begins, and what its labels are."""
    from preftree.labeling.methods.registry import open_method

    request = open_method(JudgeOptions(input="")).requests(_SAMPLE)[0]
    encoded = scorer.encode(request)
    yield _bos(scorer, encoded.ids)
    ids = ", ".join(f"{label!r} is {tokens}" for label, tokens in zip(request.labels, encoded.labels, strict=True))
    yield Finding("labels", f"{ids}: distinct in the default template", "ok")


def _bos(scorer: Judge, ids: Sequence[int]) -> Finding:
    """How often a prompt begins with BOS."""
    bos = scorer.tokenizer.bos_id
    begins = [index == bos for index in ids[:2]]
    if begins == [True, True]:
        return Finding("BOS", "twice: the chat template prints one more than it should", "failed")
    if begins[:1] == [True]:
        return Finding("BOS", f"once, id {bos}", "ok")
    if scorer.tokenizer.adds_bos:
        return Finding("BOS", "none: the chat template prints none, and transformers adds none to it")
    return Finding("BOS", "none, and the tokenizer adds none", "ok")
