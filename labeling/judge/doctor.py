"""What is installed, and whether a model is fit to label with (`doctor_lines`)."""

from __future__ import annotations

from collections.abc import Iterator

from preftree.engine.errors import PreftreeError
from preftree.labeling.judge.judge import Finding, Judge, check_model, check_software
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Message, Pair

_SAMPLE = Pair("doctor", (Message("user", "Which is better?"),), "this", "that")


class Doctor:
    """Looks at the software, then at a model. failed: whether anything was wrong so far."""

    def __init__(self, model: str | None) -> None:
        self._model = model
        self.failed = False

    def lines(self) -> Iterator[str]:
        """One line a finding, as it is made: status, name, detail."""
        for finding in self._findings():
            self.failed |= finding.status == "failed"
            yield f"{finding.status:<6}  {finding.name:<13}  {one_line(finding.detail)}"

    def _findings(self) -> Iterator[Finding]:
        yield from check_software()
        if self._model is None:
            return
        try:
            yield from check_model(self._model)
            scorer = Judge.load(self._model, weights=False)
        except PreftreeError as error:
            yield Finding("model", str(error), "failed")
            return
        try:
            yield from _prompt(scorer)
        except PreftreeError as error:
            yield Finding("labels", str(error), "failed")


def _prompt(scorer: Judge) -> Iterator[Finding]:
    """How a prompt of the default template begins, and what its labels are, if the model has any."""
    from preftree.labeling.methods.registry import open_method

    request = open_method(JudgeOptions(input="")).requests(_SAMPLE)[0]
    encoded = scorer.encode(request)
    bos = scorer.tokenizer.bos_id
    begins = [index == bos for index in encoded.ids[:2]]
    if begins == [True, True]:
        yield Finding("BOS", "twice: the chat template prints one more than it should", "failed")
    elif begins[:1] == [True]:
        yield Finding("BOS", f"once, id {bos}", "ok")
    elif scorer.tokenizer.adds_bos:
        yield Finding("BOS", "none: the chat template prints none, and transformers adds none to it")
    else:
        yield Finding("BOS", "none, and the tokenizer adds none", "ok")
    if scorer.is_reward_model:
        yield Finding("labels", "none: it gives rewards")
        return
    ids = ", ".join(f"{label!r} is {tokens}" for label, tokens in zip(request.labels, encoded.labels, strict=True))
    yield Finding("labels", f"{ids}: distinct in the default template", "ok")
