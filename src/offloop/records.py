"""The books of a session: what was decided, what is under way, what became of it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Literal, Protocol

from anyio.lowlevel import current_token

from .admission import Admission, Caller
from .entrance import entrance
from .errors import SessionClosedError
from .events import WorkersCapped
from .forking import in_forked_child
from .model import Decision, SessionStatistics
from .options import CallOptions
from .pool.condition import Condition
from .pool.lane import WorkerLane
from .pool.pool import Pool
from .pool.thread_lane import current_thread_lane
from .pool.waiting import is_closed
from .reporting import is_fallback, snapshot, tell_decision, tell_end, tell_guidance
from .tally import Tally
from .telemetry import emit
from .wire.pickling import function_name
from .worker import task

_MAX_DECISIONS = 128


class Stoppable(Caller, Protocol):
    """A run under way."""

    tally: Tally

    @property
    def grace_s(self) -> float:
        """How long its items may take to stop."""
        ...

    def stop(self, error: Exception) -> None:
        """End it with this error, from its own event loop."""
        ...


class Whole:
    """A run that is admitted with all that it does; see `Caller`."""

    n_bytes = 0.0

    def __init__(self, name: str, label: str | None) -> None:
        self.name, self.label = name, label


_within: ContextVar[Whole | None] = ContextVar("offloop_within", default=None)


class Records:
    """The books of a session: what was decided, which runs are under way, and what became of all of them.

    A run is admitted once it is in the books; from then on who drains the session waits for it. Where a session drains, only what an
    admitted run needs to finish is admitted still: a run that one of its items starts in this process, and one that
    its source of items starts.

    Args:
        admission: Refuses what is too much.
        capped: What to tell, before the first decision, of workers that were asked for and can't be had.

    Attributes:
        admission: Likewise.
        state: Of the session; decides who is admitted. Changed with the lock of `changed` held.
        changed: Told when a run is over, unless the session is open.
        decisions: The last ones.
        runs: Those under way, by id, with their event loops. Not kept alive: one whose loop was closed in the middle of
            it ends, and gives its lanes back, when it is collected.
        tally: Counts of the runs that are over.
    """

    def __init__(self, admission: Admission, capped: WorkersCapped | None) -> None:
        self.admission = admission
        self.state: Literal["not open", "open", "draining", "closed"] = "not open"
        self.changed = Condition()
        self.decisions: deque[Decision] = deque(maxlen=_MAX_DECISIONS)
        self.runs: dict[int, tuple[weakref.ref[Stoppable], Any]] = {}
        self.tally = Tally()
        self._capped = capped
        self._whole: dict[Whole, Any] = {}  # with their event loops
        self._knocking: set[object] = set()  # those who wait to come in
        self._parts: set[int] = set()  # ids of runs, and of what is admitted as a whole, that are part of another call
        _books.add(self)

    # --- who is admitted ---------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Refuse what is not admitted.

        Raises:
            SessionClosedError: The session isn't open, or is draining and this is part of no run.
        """
        if self.state != "open" and not (self.state == "draining" and self._is_needed):
            raise SessionClosedError(self.state)

    @property
    def _is_needed(self) -> bool:
        """Whether the caller is an item that executes in this process, or belongs to a run that was admitted as a whole."""
        is_item = task.current.task is not None or current_thread_lane() is not None  # this thread, or who waits for this portal
        return is_item or (bool(self._whole) and _within.get() in self._whole)

    @property
    def n_pending(self) -> int:
        """Calls that wait or execute; what they do themselves doesn't count."""
        return len(self.runs) + len(self._whole) + len(self._knocking) - len(self._parts)

    def check_room(self, fn: Any, label: str | None) -> None:
        """Refuse what is not admitted, or one call too many, before anything is done for it.

        Args:
            fn: What is to be called.
            label: The call's own name.

        Raises:
            SessionClosedError: As for `check_open`.
            Overloaded: It is one too many.
        """
        self.check_open()
        most = self.admission.most
        if most is not None and self.n_pending >= most and not self._is_needed:
            raise self.admission.refuse(Whole(function_name(fn), label), "max_pending", self.n_pending, most)

    async def knock(self, fn: Any, label: str | None) -> None:
        """Refuse as `check_room` does; where many come at once, wait for a turn of the event loop."""
        self.check_room(fn, label)
        if entrance.is_crowded():
            here = object()
            self._knocking.add(here)
            try:
                await entrance.wait()
            finally:
                self._knocking.discard(here)

    def _exceeded(self, caller: Caller) -> tuple[str, float] | None:
        """Return the limit that one more call would exceed, by its name, if there is one.

        A caller who brings more bytes than the limit comes in when nobody else is there.
        """
        pending, admission = self.n_pending, self.admission
        if admission.most is not None and pending >= admission.most:
            return "max_pending", admission.most
        if admission.most_bytes is None or not pending:
            return None
        pending_bytes = sum(run.n_bytes for run, _ in self.under_way())
        return ("max_pending_bytes", admission.most_bytes) if pending_bytes + caller.n_bytes > admission.most_bytes else None

    def _let_in(self, caller: Caller, enter: Callable[[], None]) -> None:
        """Have a caller enter, unless that is one too many."""
        is_part = self._is_needed
        with self.changed.lock:
            self.check_open()
            exceeded = None if is_part else self._exceeded(caller)
            if exceeded is None:
                enter()
        if exceeded is not None:
            raise self.admission.refuse(caller, exceeded[0], self.n_pending, exceeded[1])

    @contextmanager
    def whole(self, whole: Whole) -> Iterator[None]:
        """Admit a run that is more than its items, with all it does in this context.

        Raises:
            SessionClosedError: As for `check_open`.
            Overloaded: It is one too many.
        """
        outer, is_part = _within.get(), self._is_needed
        loop = current_token().native_token
        self._let_in(whole, lambda: self._whole.__setitem__(whole, loop))
        if is_part:
            self._parts.add(id(whole))
        _within.set(whole)
        try:
            yield
        finally:
            _within.set(outer)  # not by a token: a run whose event loop was closed ends in another context
            with self.changed.lock:
                self._whole.pop(whole, None)
                self._parts.discard(id(whole))
            self.changed.notify_all()

    # --- what is under way -------------------------------------------------------------------------------------------

    def begun(self, run: Stoppable) -> None:
        """Admit a run, which is under way from now on.

        Raises:
            SessionClosedError: As for `check_open`.
            Overloaded: It is one too many.
        """
        key, entry = id(run), (weakref.ref(run, self._collected), current_token().native_token)
        if self._is_needed:
            self._parts.add(key)
        elif self.admission.is_limited:
            self._let_in(run, lambda: self.runs.__setitem__(key, entry))
        self.runs[key] = entry
        if self.state != "open":  # looked at last: who has changed it since looks at the runs after that, and sees this one
            try:
                self.check_open()
            except SessionClosedError:
                self._drop(key)
                self.changed.notify_all()
                raise

    def _drop(self, key: int) -> None:
        self._parts.discard(key)
        self.runs.pop(key, None)

    def under_way(self) -> Iterator[tuple[Stoppable, Any]]:
        """Yield the runs under way with their event loops."""
        for reference, loop in list(self.runs.values()):
            if (run := reference()) is not None:
                yield run, loop

    def forget_closed(self) -> None:
        """Wait no more for runs whose event loop is closed: they will not go on."""
        for key, (_, loop) in list(self.runs.items()):
            if is_closed(loop):
                self._drop(key)
        for whole, loop in list(self._whole.items()):
            if is_closed(loop):
                self._whole.pop(whole, None)
                self._parts.discard(id(whole))

    def _collected(self, reference: weakref.ref[Stoppable]) -> None:
        for key, (other, _) in list(self.runs.items()):
            if other is reference:
                self._drop(key)
        self.changed.notify_all()

    @property
    def is_quiet(self) -> bool:
        """Whether no run is under way, nor anything that goes with one."""
        return not (list(self.runs) or self._whole)

    @property
    def n_left(self) -> int:
        """Items of runs under way that have no outcome yet."""
        return sum(run.tally.cancelled for run, _ in self.under_way())

    # --- what is told ------------------------------------------------------------------------------------------------

    def decided(self, decision: Decision, options: CallOptions, tally: Tally) -> None:
        """Note where a run executes, for the first time or anew, and tell."""
        self.decisions.append(decision)
        if self._capped is not None:
            capped, self._capped = self._capped, None
            emit(capped)
        if is_fallback(decision):
            tally.note_fallback(decision.reason)
        tell_decision(decision, options)

    def ended(self, run: Stoppable, decision: Decision, options: CallOptions, wall_s: float, wait_s: float) -> None:
        """Note what became of a run, and tell."""
        run.tally.note_decision(decision.strategy)
        self.tally.add(run.tally)
        self._drop(id(run))
        tell_end(decision, options, run.tally, wall_s, wait_s)
        if decision.hint is not None:
            tell_guidance("thread_safe", decision.hint, decision.fn)
        if self.state != "open":  # else nobody waits for the end of runs
            self.changed.notify_all()

    def snapshot(self, pool: Pool[WorkerLane]) -> SessionStatistics:
        """Return what the session has done so far; runs count once they are over."""
        return replace(
            snapshot(self.tally, pool, self.n_left),
            state=self.state,
            pending=self.n_pending,
            refused=self.admission.refused,
        )

    def leave_behind(self) -> None:
        """In a forked child: forget the runs, which are the parent's."""
        self.changed = Condition()
        self.runs.clear()
        self._parts.clear()
        self._knocking.clear()
        self._whole.clear()


_books: weakref.WeakSet[Records] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for records in list(_books):
        records.leave_behind()
