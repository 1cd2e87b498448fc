"""What a figure has to show, and whether it does."""

from collections.abc import Mapping
from dataclasses import dataclass

from .entrants import Role
from .outcomes import Outcome, ratios
from .quantiles import quantile

FASTEST_PEER = "fastest peer"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """``measure`` of ours is at most ``limit``, or at least that: absolutely, or times what another entrant has."""

    measure: str
    limit: float
    ours: str = "offloop"  # the label of the entrant that is held to it
    against: str | None = None  # an entrant's label, FASTEST_PEER, or None: the limit is absolute
    against_measure: str | None = None  # where it isn't the same measure
    strict: bool = False  # less than, not equal
    at_least: bool = False  # the more, the better

    @property
    def text(self) -> str:
        measure = f"{self.ours}: {self.measure.removesuffix('_s')}"
        sign = "≥" if self.at_least else "<" if self.strict else "≤"
        if self.against is None and not self.measure.endswith("_s"):
            return f"{measure} {sign} {self.limit:g}"
        if self.against is None:
            return f"{measure} {sign} {self.limit * 1e3:g} ms"
        theirs = f": {self.against_measure.removesuffix('_s')}" if self.against_measure else ""
        return f"{measure} {sign} {self.limit:g} × {self.against}{theirs}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `auto` has to decide, round by round: each decision as text has this word in it."""

    word: str
    ours: str = "offloop auto"

    @property
    def text(self) -> str:
        return f"{self.ours} decides: {self.word}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A goal with what was found: a ratio's median over the rounds with its quartiles, a time, or what was decided.

    ``met`` is None where one side was not measured.
    """

    goal: str
    met: bool | None = None
    against: str | None = None
    found: float | None = None
    quartiles: tuple[float, float] | None = None
    decided: str | None = None
    measure: str = "wall_s"  # what ``found`` is, where it isn't a ratio


def judge(goal: Goal | Choice, outcomes: Mapping[str, Outcome]) -> Verdict:
    """Hold one goal against what was measured."""
    ours = outcomes.get(goal.ours)
    if not ours or not ours.samples:
        return Verdict(goal=goal.text)
    if isinstance(goal, Choice):
        is_met = all(goal.word in remark.split() for remark in ours.remarks)
        return Verdict(goal=goal.text, met=is_met, decided=" or ".join(sorted(set(ours.remarks))))
    if goal.against is None:
        found = ours.value(goal.measure)
        return Verdict(goal=goal.text, met=_is_met(goal, found), found=found, measure=goal.measure)
    rival = _rival(goal, goal.against, outcomes)
    if not rival or not rival.samples:
        return Verdict(goal=goal.text)
    by_round = ratios(ours, rival, goal.measure, goal.against_measure or goal.measure)
    found = quantile(by_round, 0.5)
    return Verdict(
        goal=goal.text,
        met=_is_met(goal, found),
        against=rival.entrant.label,
        found=found,
        quartiles=(quantile(by_round, 0.25), quantile(by_round, 0.75)),
    )


def _is_met(goal: Goal, found: float) -> bool:
    if goal.at_least:
        return found >= goal.limit
    return found < goal.limit if goal.strict else found <= goal.limit


def _rival(goal: Goal, against: str, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    if against != FASTEST_PEER:
        return outcomes.get(against)
    peers = (o for o in outcomes.values() if o.entrant.role is Role.PEER and o.samples)
    return min(peers, key=lambda peer: peer.value(goal.measure), default=None)
