"""The numbers that a judge's labels stand for, and what a distribution over them says of a response.

Direct scores of RLAIF (Lee et al. 2023, section 2.2.2): P of the labels 1 to 10, renormalised over them, gives the
score sum(i P(i)), which is rescaled to a reward in [-1, 1].
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.methods.score_labels import Score
from preftree.labeling.types import RequestScores

if TYPE_CHECKING:
    from preftree.labeling.prompts.template import Template

MAX_LABELS = 100

_SCALE = re.compile(r"(0|[1-9]\d{0,8})-(0|[1-9]\d{0,8})", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class Scale:
    """values: the number of each label, all different. invert: whether the lowest is the preferred one."""

    values: tuple[float, ...]
    invert: bool = False

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def score(self, scores: RequestScores) -> Score:
        """Raises InputError when a number of the model is not finite."""
        distribution = _mean([_softmax(answer.finite()) for answer in scores.answers])
        mean = math.fsum(share * value for share, value in zip(distribution, self.values, strict=True))
        mean = min(max(mean, self.low), self.high)
        return Score(
            score=mean,
            reward=self._reward(mean),
            mode=self.values[distribution.index(max(distribution))],
            entropy=max(0.0, math.fsum(-share * math.log(share) for share in distribution if share > 0)),
            label_mass=scores.label_mass,
            distribution=distribution,
            rationales=scores.rationales,
        )

    def _reward(self, score: float) -> float:
        """(score - middle) / half the range; halves are taken first, as the range of finite numbers may not be one."""
        middle, half = self.low / 2 + self.high / 2, self.high / 2 - self.low / 2
        reward = min(max((score - middle) / half, -1.0), 1.0)
        return -reward if self.invert else reward


def scale_labels(text: str) -> tuple[str, ...]:
    """The labels of "1-5" or another LOW-HIGH. InputError unless they are 2 to 100 whole numbers, upwards."""
    found = _SCALE.fullmatch(text)
    if not found:
        raise UsageError(f"--scale {text!r} is not LOW-HIGH, two whole numbers such as 1-10")
    low, high = int(found[1]), int(found[2])
    if low == high:
        raise UsageError(f"--scale {text} has one value; a scale needs two or more")
    if low > high:
        raise UsageError(f"--scale {text} runs downwards; write {high}-{low}")
    if high - low + 1 > MAX_LABELS:
        raise UsageError(f"--scale {text} has {high - low + 1:,} values; {MAX_LABELS} is the limit")
    return tuple(str(number) for number in range(low, high + 1))


def scaled(template: Template, scale: str | None, exemplars: int) -> Template:
    """`template` with the labels of `scale` in place of its own; as it is where `scale` is None.

    InputError where the judge would not hear of the scale, or would see an exemplar answered on another one.
    """
    if scale is None:
        return template
    labels = scale_labels(scale)
    if missing := {"low", "high"} - template.variables:
        shown = " or ".join(f"{{{{ {name} }}}}" for name in sorted(missing, reverse=True))
        where = f"{template.name}:{template.sample.first_line}"
        raise InputError(f"{where}: the sample does not show {shown}: the judge would not hear of scale {scale}")
    for number, exemplar in enumerate(template.exemplars[:exemplars], 1):
        if exemplar.label not in labels:
            message = f"exemplar {number} is answered {exemplar.label!r}, which is not on scale {scale}"
            raise template.error("exemplars", message)
    return replace(template, labels=labels, values=None)


def scale_of(template: Template) -> Scale:
    """What the labels of a template stand for: its `values`, or themselves. InputError with file and line."""
    if template.values is not None:
        key, values = "values", template.values
    else:
        key, values = "labels", tuple(_value(template, label) for label in template.labels)
    if len(template.labels) > MAX_LABELS:
        raise template.error("labels", f"there are {len(template.labels):,} labels; {MAX_LABELS} is the limit")
    for number, value in enumerate(values):
        if value in values[:number]:
            first = template.labels[values.index(value)]
            both = f"{first!r} and {template.labels[number]!r}"
            raise template.error(key, f"{key!r}: {both} stand for the same number, {value:g}")
    if not max(values) / 2 - min(values) / 2 > 0:
        raise template.error(key, f"{key!r}: the numbers are too close to each other")
    return Scale(values, template.invert)


def _value(template: Template, label: str) -> float:
    value = float(label) if _NUMBER.fullmatch(label.strip()) else None
    if value is None or not math.isfinite(value):
        message = f"'labels': {label!r} is no number; give every label one, such as 'values: [1, 0]'"
        raise template.error("labels", message)
    return value


def _softmax(logprob: Sequence[float]) -> tuple[float, ...]:
    largest = max(logprob)
    weights = [math.exp(value - largest) for value in logprob]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def _mean(distributions: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(math.fsum(shares) / len(distributions) for shares in zip(*distributions, strict=True))
