"""What offloop is asked to choose with: nothing learned, everything learned, threads allowed or not."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import anyio

from offloop import Decision, ParallelSession

from .clock import MOST_CALLS, SAMPLE_S, once_s, sample_s
from .items import Load
from .work import alias

SETTLING_S = 0.02
IDLE_TIMEOUT_S = 600.0
LEARNING_CALLS = 2

_numbers = count()


class Goals(NamedTuple):
    """The most that regret may be: its geometric mean over all cells, and that of the worst one."""

    mean: float
    worst: float


@dataclass(frozen=True)
class Mode:
    """One way to ask."""

    name: str
    thread_safe: bool
    is_learned: bool
    goals: Goals

    def may_use(self, family: str) -> bool:
        """Whether a rival of this family had the same means."""
        return self.thread_safe or family != "threads"


FIRST = Mode("first", thread_safe=True, is_learned=False, goals=Goals(1.25, 2.0))
LATER = Mode("later", thread_safe=True, is_learned=True, goals=Goals(1.08, 1.3))
LATER_UNSAFE = Mode("later_unsafe", thread_safe=False, is_learned=True, goals=Goals(1.08, 1.3))
MODES = (FIRST, LATER, LATER_UNSAFE)


@asynccontextmanager
async def warmed(workers: int) -> AsyncIterator[ParallelSession]:
    """Open a session of its own, with its workers up and awake and nothing learned."""
    async with ParallelSession(workers=workers, idle_timeout_s=IDLE_TIMEOUT_S) as session:
        await session.warm()
        await anyio.sleep(SETTLING_S)
        yield session


@dataclass
class Asked:
    """What one mode has chosen on one cell.

    Attributes:
        decisions: As text, one for each sample.
        opening_s: Seconds of the very first call of each session.
    """

    mode: Mode
    decisions: list[str] = field(default_factory=list)
    opening_s: list[float] = field(default_factory=list)

    def noted(self, session: ParallelSession) -> None:
        """Keep what was decided last."""
        self.decisions.append(described(session.decisions[-1]) if session.decisions else "nothing decided")


def described(decision: Decision) -> str:
    """Strategy, workers and reason in a few letters."""
    workers = f"×{decision.workers}" if decision.workers > 1 else ""
    return f"{decision.strategy}{workers} {decision.reason}"


async def first_s(asked: Asked, load: Load, workers: int) -> float:
    """Return the time of a call of a function that is called for the first time.

    A short call is made again, each time with a function of another name, since the event loop and the worker are
    asleep before the first and the baselines' are not.
    """
    calls_s: list[float] = []
    async with warmed(workers) as session:
        began_s = perf_counter()
        while not calls_s or (perf_counter() - began_s < SAMPLE_S and len(calls_s) < MOST_CALLS):
            calls_s.append(await once_s(caller(session, asked.mode, load)))
        asked.noted(session)
    asked.opening_s.append(calls_s[0])
    return median(calls_s)


class Learned:
    """A session that knows a cell's function, since it has called it before."""

    def __init__(self, asked: Asked, session: ParallelSession, load: Load) -> None:
        self.asked = asked
        self._session = session
        self._call = caller(session, asked.mode, load)

    async def learn(self) -> list[Any]:
        """Make the calls that are not timed; return the last one's results."""
        for _ in range(LEARNING_CALLS):
            results = await self._call()
        return results

    async def sample_s(self) -> float:
        """Return the time of a later call."""
        value = await sample_s(self._call)
        self.asked.noted(self._session)
        return value


def caller(session: ParallelSession, mode: Mode, load: Load) -> Callable[[], Any]:
    """Return the call to time, of a function that nobody has called so far."""
    fn = alias(load.original, next(_numbers))
    return lambda: session.run_parallel(fn, load.items, thread_safe=mode.thread_safe)
