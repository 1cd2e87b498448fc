"""The books of a session: what was decided, what is under way, what became of it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

from anyio.lowlevel import current_token

from .events import WorkersCapped
from .model import Decision, SessionStatistics
from .options import CallOptions
from .pool.lane import WorkerLane
from .pool.pool import Pool
from .reporting import is_fallback, snapshot, tell_decision, tell_end, tell_guidance
from .tally import Tally
from .telemetry import emit

_MAX_DECISIONS = 128


class Stoppable(Protocol):
    """A run under way."""

    tally: Tally

    def stop(self, error: Exception) -> None:
        """End it with this error, from its own event loop."""
        ...


class Records:
    """The books of a session: what was decided, which runs are under way, and what became of all of them.

    Args:
        capped: What to tell, before the first decision, of workers that were asked for and can't be had.

    Attributes:
        decisions: The last ones.
        runs: Those under way, by id, with their event loops. Not kept alive: one whose loop was closed in the middle of
            it ends, and gives its lanes back, when it is collected.
        tally: Counts of the runs that are over.
    """

    def __init__(self, capped: WorkersCapped | None) -> None:
        self.decisions: deque[Decision] = deque(maxlen=_MAX_DECISIONS)
        self.runs: dict[int, tuple[weakref.ref[Stoppable], Any]] = {}
        self.tally = Tally()
        self._capped = capped

    def decided(self, decision: Decision, options: CallOptions, tally: Tally) -> None:
        """Note where a run executes, for the first time or anew, and tell."""
        self.decisions.append(decision)
        if self._capped is not None:
            capped, self._capped = self._capped, None
            emit(capped)
        if is_fallback(decision):
            tally.note_fallback(decision.reason)
        tell_decision(decision, options)

    def begun(self, run: Stoppable) -> None:
        """Note that a run is under way."""
        self.runs[id(run)] = weakref.ref(run), current_token().native_token

    def under_way(self) -> Iterator[tuple[Stoppable, Any]]:
        """Yield the runs under way with their event loops."""
        for reference, loop in list(self.runs.values()):
            if (run := reference()) is not None:
                yield run, loop

    def ended(self, run: Stoppable, decision: Decision, options: CallOptions, wall_s: float) -> None:
        """Note what became of a run, and tell."""
        self.runs.pop(id(run), None)
        run.tally.note_decision(decision.strategy)
        self.tally.add(run.tally)
        tell_end(decision, options, run.tally, wall_s)
        if decision.hint is not None:
            tell_guidance("thread_safe", decision.hint, decision.fn)

    def snapshot(self, pool: Pool[WorkerLane]) -> SessionStatistics:
        """Return what the session has done so far; runs count once they are over."""
        return snapshot(self.tally, pool, sum(run.tally.cancelled for run, _ in self.under_way()))
