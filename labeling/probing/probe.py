"""A probe: one change to what a judge reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

ORDER, LABELS, KEY, VERBOSITY, INJECTION = "order", "labels", "master key", "verbosity", "injection"
_RESPONSE = "{response}"


@dataclass(frozen=True)
class Probe:
    """Either one response takes another form, or both stay and the prompt names them otherwise.

    Attributes:
        name: as it is chosen.
        kind: what it is an example of.
        form: of the probed response: a text in which {response} stands for the response, {label} for the label that
            it would win with, {closing} for what follows the responses in the prompt, and {answer} for how the judge's
            answer begins. Without {response}, it replaces the response.
        labels: of a probe of kind LABELS, what the first and the second response are called.
    """

    name: str
    kind: str
    form: str = ""
    labels: tuple[str, str] | None = None

    def forged(self, response: str, label: str, closing: str, answer: str) -> str:
        """The probed response. Braces in texts are texts."""
        known = {_RESPONSE: response, "{label}": label, "{closing}": closing, "{answer}": answer}
        return "".join(known.get(part, part) for part in _parts(self.form))

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)

    @classmethod
    def recorded(cls, record: dict[str, Any]) -> Probe:
        """From `record`."""
        labels = record["labels"]
        return cls(record["name"], record["kind"], record["form"], None if labels is None else (labels[0], labels[1]))


def _parts(form: str) -> list[str]:
    """Fixed texts and places in turn."""
    found, rest = [], form
    while "{" in rest and "}" in rest:
        before, _, after = rest.partition("{")
        inner, _, rest = after.partition("}")
        found += [before, f"{{{inner}}}"]
    return [*found, rest]
