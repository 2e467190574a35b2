"""What a label says of two responses, whichever method made it, and which of that is exported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.methods.probability import probability
from preftree.labeling.orders import orders_agree
from preftree.labeling.terminal import count
from preftree.labeling.types import Message, Pair, ResponseSet, Sample, Verdict

Row = Mapping[str, Any]

# Why a comparison is left out.
NO_LABEL = "no label"
NO_COMPARISON = "nothing compared: a single response, or a ranking in which all tie"
SAME_TEXT = "both responses are the same text"
TIE = "tie"
INCONSISTENT = "the orders disagree"


@dataclass(frozen=True)
class Comparison:
    """Two responses to a prompt and the verdict.

    Attributes:
        id: of the row, and of a list of responses which two they are.
        prompt: the conversation so far.
        response_a: the first response.
        response_b: the second response.
        verdict: of the label.
        p_a: probability that A is better; None where the method gives none.
        scores: of A and B, where it scores each.
        consistent: whether both orders prefer the same response; None where that is not known.
        votes: of each annotator by name, where a verdict is made of several.
        accepted: whether the verdict may be used without people, as --accept asks; None where nobody asked.
    """

    id: str
    prompt: tuple[Message, ...]
    response_a: str
    response_b: str
    verdict: Verdict
    p_a: float | None = None
    scores: tuple[float, float] | None = None
    consistent: bool | None = None
    votes: Mapping[str, Vote] = field(default_factory=dict)
    accepted: bool | None = None

    @property
    def confidence(self) -> float | None:
        """Probability of the verdict, from 0.5."""
        return None if self.p_a is None else max(self.p_a, 1.0 - self.p_a)

    @property
    def margin(self) -> float:
        """How much better the better one is: the difference of probabilities, or of scores, which are from -1 to 1."""
        if self.p_a is not None:
            return abs(2.0 * self.p_a - 1.0)
        assert self.scores is not None
        return abs(self.scores[0] - self.scores[1])

    @property
    def chosen(self) -> str:
        return self.response_b if self.verdict == "b" else self.response_a

    @property
    def rejected(self) -> str:
        return self.response_a if self.verdict == "b" else self.response_b


@dataclass(frozen=True)
class Vote:
    """verdict: of one annotator, None where it has none, and then why."""

    verdict: Verdict | None
    reason: str | None = None


@dataclass
class Selection:
    """keep_ties: whether ties are exported. min_confidence: of the verdict, 0.5 to 1. drop_inconsistent: leave out what
    the two orders disagree on. left_out: by reason, the first one that holds.
    """

    keep_ties: bool = False
    min_confidence: float | None = None
    drop_inconsistent: bool = False
    kept: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def takes(self, comparison: Comparison) -> bool:
        """Counts it, either way."""
        if reason := self._reason(comparison):
            self.leave_out(reason)
            return False
        self.kept += 1
        return True

    def leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def lines(self) -> list[str]:
        return [f"{count(number, 'pair')}: {reason}" for reason, number in self.left_out.items()]

    def _reason(self, comparison: Comparison) -> str | None:
        if comparison.response_a == comparison.response_b:
            return SAME_TEXT
        if comparison.verdict == "tie" and not self.keep_ties:
            return TIE
        confidence = comparison.confidence
        if self.min_confidence is not None and confidence is not None and confidence < self.min_confidence:
            return f"confidence below {self.min_confidence:g}"
        return INCONSISTENT if self.drop_inconsistent and comparison.consistent is False else None


@dataclass(frozen=True)
class Reader:
    """How to read a method's labels.

    Attributes:
        columns: those of labels.parquet that it needs.
        comparisons: of a row.
        optional: columns that it reads where they are there: labels of other kinds of rows, or of an earlier version,
            have none of them.
        has_probabilities: whether they have p_a.
        has_orders: whether they say if both orders agree.
    """

    columns: tuple[str, ...]
    comparisons: Callable[[Sample, Row], Iterator[Comparison]]
    optional: tuple[str, ...] = ()
    has_probabilities: bool = True
    has_orders: bool = True


def reader_of(run: Mapping[str, Any], all_pairs: bool) -> Reader:
    """For a run by its record. all_pairs: of several responses every compared pair, not only best and worst.

    InputError for a method whose labels compare nothing.
    """
    name = run["method"].get("name")
    if all_pairs and name not in ("ranking", "reward"):
        raise InputError(f"--pairs all is for labels of methods ranking and reward, and these are of method {name}")
    if name == "reward":
        if run["method"]["sets"] or "draw" in run["method"]:
            return Reader(("sets",), _by_sets, has_orders=False)
        return Reader((), partial(_by_rewards, all_pairs), ("p_a", "verdict", "rewards"), has_orders=False)
    of_pairs = ("verdict", "reward_a", "reward_b")
    scores = Reader((), _by_scores, of_pairs, has_probabilities=False, has_orders=False)
    soft = Reader(("p_a", "verdict", "p_a_first", "p_a_second"), _soft, ("consistent",))
    readers = {
        "rlaif": soft,
        "probe": soft,
        "salmon": Reader(("p_a", "verdict", "consistent", "principles"), _by_principles),
        "direct": scores,
        "panel": Reader(("p_a", "verdict", "judges"), _by_judges, has_orders=False),
        "rubric": scores,
        "principled": Reader(("sets",), _by_sets),
        "ranking": Reader(("best", "worst", "p_best", "win_matrix", "win_matrix_first"), _best_and_worst),
    }
    if all_pairs:
        return Reader(readers["ranking"].columns, _all_pairs)
    if name not in readers:
        raise InputError(f"labels of method {name} are not exported; methods are {', '.join(readers)}, reward")
    return readers[name]


def _soft(sample: Sample, row: Row) -> Iterator[Comparison]:
    if isinstance(sample, Pair):
        yield _of_pair(sample, row["verdict"], p_a=row["p_a"], consistent=_consistent(row))


def _by_principles(sample: Sample, row: Row) -> Iterator[Comparison]:
    """Inconsistent is a pair on which no principle's orders agree."""
    votes = {one["name"]: _vote(one) for one in row["principles"]}
    if isinstance(sample, Pair):
        yield _of_pair(sample, row["verdict"], p_a=row["p_a"], consistent=row["consistent"] > 0, votes=votes)


def _by_judges(sample: Sample, row: Row) -> Iterator[Comparison]:
    """Each judge has a vote."""
    if isinstance(sample, Pair):
        votes = {one["judge"]: Vote(_sign(one["p_a"] - 0.5)) for one in row["judges"]}
        yield _of_pair(sample, row["verdict"], p_a=row["p_a"], votes=votes)


def _by_scores(sample: Sample, row: Row) -> Iterator[Comparison]:
    if isinstance(sample, Pair):
        yield _of_pair(sample, row["verdict"], scores=(row["reward_a"], row["reward_b"]))


def _by_sets(sample: Sample, row: Row) -> Iterator[Comparison]:
    """One set's label is the pair's; several are votes, and their mean probability decides."""
    if not isinstance(sample, Pair):
        return
    sets = row["sets"]
    p_a = sum(one["p_a"] for one in sets) / len(sets)
    votes = {one["set"]: Vote(one["verdict"]) for one in sets}
    in_orders = [_consistent(one) for one in sets if "p_a_first" in one]
    consistent = all(in_orders) if in_orders else None
    yield _of_pair(sample, _sign(p_a - 0.5), p_a=p_a, consistent=consistent, votes=votes if len(sets) > 1 else {})


def _best_and_worst(sample: Sample, row: Row) -> Iterator[Comparison]:
    """Nothing of a row in which all tie."""
    if isinstance(sample, ResponseSet) and row["best"] is not None:
        yield _of_two(sample, row, row["best"], row["worst"], row["p_best"])


def _all_pairs(sample: Sample, row: Row) -> Iterator[Comparison]:
    assert isinstance(sample, ResponseSet)
    for i, wins in enumerate(row["win_matrix"]):
        for j in range(i + 1, len(wins)):
            if wins[j] is not None:
                yield _of_two(sample, row, i, j, wins[j])


def _by_rewards(all_pairs: bool, sample: Sample, row: Row) -> Iterator[Comparison]:
    """Of several responses the best and the worst; nothing where all have the same reward."""
    if isinstance(sample, Pair):
        yield _of_pair(sample, row["verdict"], p_a=row["p_a"])
    if not isinstance(sample, ResponseSet):
        return
    rewards, texts = row["rewards"], sample.responses
    best, worst = rewards.index(max(rewards)), rewards.index(min(rewards))
    chosen = combinations(range(len(rewards)), 2) if all_pairs else [(best, worst)] if best != worst else []
    for i, j in chosen:
        p = probability(rewards[i] - rewards[j])
        yield Comparison(f"{sample.id}/{i}-{j}", sample.prompt, texts[i], texts[j], _sign(p - 0.5), p_a=p)


def _vote(principle: Row) -> Vote:
    """A principle counts where both orders prefer the same response."""
    if principle["consistent"]:
        return Vote(_sign(principle["score"]))
    opposed = principle["s12"] * principle["s21"] < 0
    return Vote(None, "inconsistent") if opposed else Vote("tie")


def _of_pair(pair: Pair, verdict: Verdict, **said: Any) -> Comparison:
    return Comparison(pair.id, pair.prompt, pair.response_a, pair.response_b, verdict, **said)


def _of_two(sample: ResponseSet, row: Row, i: int, j: int, p: float) -> Comparison:
    """p: P(i better than j)."""
    first, second = row["win_matrix_first"][i][j], row["win_matrix_first"][j][i]
    consistent = None if first is None or second is None else bool(orders_agree(first, 1.0 - second))
    a, b = sample.responses[i], sample.responses[j]
    return Comparison(f"{sample.id}/{i}-{j}", sample.prompt, a, b, _sign(p - 0.5), p_a=p, consistent=consistent)


def _consistent(said: Row) -> bool:
    """As the label has it; where an earlier version made it, what follows from both orders."""
    found: bool = said["consistent"] if "consistent" in said else orders_agree(said["p_a_first"], said["p_a_second"])
    return found


def _sign(score: float) -> Verdict:
    return "a" if score > 0 else "b" if score < 0 else "tie"
