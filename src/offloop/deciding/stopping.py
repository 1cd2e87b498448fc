"""Stopping what executes, step by step: ask, interrupt, give up.

    state        what happens          how long it lasts                              next
    asked        the flag is raised    HEAD_START_S: code that calls checkpoint() is  interrupted
                                       to stop where it means to
    interrupted  an interrupt is sent  a pause, twice as long each time, at most      interrupted
                                       PAUSE_S: one may come while it must not be
                                       raised, or be swallowed by a callback
    given up     the worker is killed, for good
                 the thread abandoned

Whatever the state, what has not stopped ``grace_s`` after it was asked to is given up.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

HEAD_START_S = 0.002  # a guess: a loop that looks at checkpoint() once a millisecond still stops by itself
PAUSE_S = 0.01  # code that is nearly always in a log call still gets a hundred chances in a second of grace: a guess


class Act(Enum):
    """What to do now."""

    WAIT = "wait"
    INTERRUPT = "interrupt"
    GIVE_UP = "give up"


class Step(NamedTuple):
    """What to do now, and for how many seconds to wait after it."""

    act: Act
    wait_s: float


class Stopping:
    """One attempt to stop what a lane executes.

    Args:
        now_s: When it was asked to stop, by any clock.
        grace_s: How long it may take.
    """

    __slots__ = ("_asked_s", "_due_s", "_grace_s", "_pause_s")

    def __init__(self, now_s: float, grace_s: float) -> None:
        self._asked_s, self._grace_s = now_s, grace_s
        self._due_s = self._pause_s = HEAD_START_S

    def step(self, now_s: float) -> Step:
        """Return what to do now."""
        elapsed_s = now_s - self._asked_s
        if elapsed_s >= self._grace_s:
            return Step(Act.GIVE_UP, 0.0)
        act = Act.WAIT
        if elapsed_s >= self._due_s:
            act = Act.INTERRUPT
            self._pause_s = min(2 * self._pause_s, PAUSE_S)
            self._due_s = elapsed_s + self._pause_s
        return Step(act, min(self._due_s, self._grace_s) - elapsed_s)
