"""One preference instruction: a pair, principles that were drawn for it, and which response is better under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from preftree.labeling.data.row import prompt_value
from preftree.labeling.export.drawing import Draw, Recipe, Side, decide, draw, other
from preftree.labeling.export.text_rules import LANGUAGE, REFUSAL, Ruled
from preftree.labeling.principles.principle import Principle
from preftree.labeling.prompts.reward_input import Layout, reward_messages
from preftree.labeling.terminal import count
from preftree.labeling.types import Message


@dataclass
class Tally:
    """Counts for the record.

    Attributes:
        decided_by: preferences by the name of the principle that decided, every principle in it.
        pairs: rows with labels.
        rejected: rows without.
        preferences: that were written.
        flipped: of them, by noise.
        ties: preferences that were dropped because all their scores were 0.
        ruled: preferences by the rule that decided instead of a principle.
        left_out: pairs by the reason of a rule.
    """

    decided_by: dict[str, int]
    pairs: int = 0
    rejected: int = 0
    preferences: int = 0
    flipped: int = 0
    ties: int = 0
    ruled: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def add(self, preference: dict[str, Any] | None) -> None:
        """None for one that was dropped."""
        if preference is None:
            self.ties += 1
            return
        self.preferences += 1
        self.flipped += preference["flipped"]
        if (rule := preference["rule"]) is not None:
            self.ruled[rule] = self.ruled.get(rule, 0) + 1
        else:
            self.decided_by[preference["decided_by"]] += 1

    def leave_out(self, reason: str) -> None:
        """A pair."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def dropped(self) -> list[str]:
        """What was not written, and why."""
        reasons = [
            (self.ties, "preference", "every principle drawn has score 0"),
            *((number, "pair", reason) for reason, number in sorted(self.left_out.items())),
            (self.rejected, "row", "no labels"),
        ]
        return [f"{count(number, noun)}: {reason}" for number, noun, reason in reasons if number]


def preference(
    ruled: Ruled, scores: Sequence[float], principles: Sequence[Principle], recipe: Recipe, turn: int
) -> dict[str, Any] | None:
    """A row of the output, or None where every principle drawn has the score 0. scores: of all principles."""
    pair = ruled.pair
    drawn = draw(recipe, turn, pair.id)
    compared = [scores[index] for index in drawn.chosen]
    decision = decide(compared, drawn.negated)
    if decision is None:
        return None
    decider, side = decision
    shown = [principles[index] for index in drawn.chosen]
    by_rule = _by_rule(ruled, drawn)
    rule, better = by_rule or (None, side)
    flipped = drawn.rule_flipped if rule else drawn.flipped
    chosen = other(better) if flipped else better
    if drawn.swapped:
        pair, compared, chosen = pair.swap(), [0.0 - score for score in compared], other(chosen)
    return {
        "id": pair.id,
        "pass": turn,
        "seed": recipe.seed,
        "prompt": prompt_value(pair.prompt),
        "response_a": pair.response_a,
        "response_b": pair.response_b,
        "principles": [one.stated(no) for one, no in zip(shown, drawn.negated, strict=True)],
        "names": [one.name for one in shown],
        "signs": [-1 if negated else 1 for negated in drawn.negated],
        "scores": compared,
        "decided_by": None if rule else shown[decider].name,
        "rule": rule,
        "chosen": chosen,
        "flipped": flipped,
        "swapped": drawn.swapped,
    }


def conversations(made: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """A `preference` as TRL's RewardTrainer takes it: what a reward model reads of either response."""
    shown = made["prompt"]
    prompt = (Message("user", shown),) if isinstance(shown, str) else tuple(Message(**turn) for turn in shown)
    found = {
        side: [
            message._asdict()
            for message in reward_messages(prompt, made[f"response_{side}"], layout, made["principles"])
        ]
        for side in ("a", "b")
    }
    chosen = made["chosen"]
    return {"id": f"{made['id']}/{made['pass']}", "chosen": found[chosen], "rejected": found[other(chosen)]}


def _by_rule(ruled: Ruled, drawn: Draw) -> tuple[str, Side] | None:
    """The rule that decides instead of a principle, and the response that it prefers. Language comes first."""
    if ruled.language:
        return LANGUAGE, ruled.language
    return (REFUSAL, ruled.refusal) if ruled.refusal and drawn.refusal_counts else None
