"""Contenders taking turns: every round samples each of them once, in an order of its own."""

import random
from collections.abc import Callable, Sequence

from .entrants import Entrant
from .outcomes import Outcome
from .sampling import NoSample, Sampler

Open = Callable[[Entrant], Sampler]
Progress = Callable[[str], None]


def take_turns(
    entrants: Sequence[Entrant],
    opened: Open,
    *,
    rounds: int,
    alone: bool,
    chance: random.Random,
    progress: Progress,
) -> list[Outcome]:
    """Run all rounds; an entrant that fails drops out and says why.

    Entrants live side by side, asleep while it isn't their turn, and one untimed round comes
    first; ``alone``, each is started for its own sample and ended after it, unrehearsed. A slow
    one takes part in the first timed round only.
    """
    table = Table(opened)
    outcomes = [Outcome(entrant) for entrant in entrants]
    try:
        for number in range(1 if alone else 0, rounds + 1):
            for outcome in chance.sample(outcomes, len(outcomes)):
                if outcome.failure is None and not (outcome.entrant.slow and outcome.samples):
                    progress(f"round {number} of {rounds}: {outcome.entrant.label}")
                    table.turn(outcome, timed=number > 0)
                    if alone or outcome.failure:
                        table.leave(outcome)
    finally:
        for outcome in outcomes:
            table.leave(outcome)
    return outcomes


class Table:
    """The samplers at play, by entrant."""

    def __init__(self, opened: Open) -> None:
        self._opened = opened
        self._seated: dict[Entrant, Sampler] = {}

    def turn(self, outcome: Outcome, *, timed: bool) -> None:
        """Let one entrant take one sample, seating it before its first."""
        entrant = outcome.entrant
        try:
            if entrant not in self._seated:
                self._seated[entrant] = self._opened(entrant)
            sample = self._seated[entrant].sample()
        except NoSample as reason:
            outcome.failure = str(reason)
        else:
            if timed:
                outcome.samples.append(sample)
                if self._seated[entrant].remark:
                    outcome.remarks.append(self._seated[entrant].remark)

    def leave(self, outcome: Outcome) -> None:
        """End the entrant's sampler, if it has one."""
        sampler = self._seated.pop(outcome.entrant, None)
        if sampler is not None:
            outcome.killed += sampler.close()
