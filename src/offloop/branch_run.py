"""A run over branches: one queue of all their calls, which takes the dearest first.

    branches ──► units, in lots ──► Ordering: which next? ──► one task for each lane ──► UnitSteering: where? ──► results,
    by name      (one a branch)     dearest first, or alone                                                      combined here
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel

from .backlog import Share
from .branches import Branch
from .call_steering import CallSteering
from .changes import Changes
from .deciding.ordering import Lot, Ordering
from .deciding.seeding import Keyed
from .errors import SessionClosedError
from .events import UnitFinished
from .model import Strategy
from .options import CallOptions
from .planning import Known, Planner, Venues
from .plans import Plans
from .progressing import Standing, observed
from .records import Records
from .sensing.size import size_up
from .strategies.base import Backend, Job
from .telemetry import emit, is_heard
from .tracing import traced
from .wire.buffers import FILE_BYTES
from .wire.failures import type_name
from .wire.frames import Flag

_TURN_S = 0.002  # for how long branches are looked at before the event loop has its turn
_KEY_WORDS = 4  # of 32 bits: as many as numpy's SeedSequence draws from its pool


@dataclass(slots=True, eq=False)
class Unit:
    """One call of a branch.

    Attributes:
        branch: The branch.
        number: Its number there.
        fn: What is called.
        args: With these arguments.
        known: What is known of it.
    """

    branch: Branch
    number: int
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    known: Known


class _Turn:
    """A look at many things on the event loop, which has its turn in between."""

    def __init__(self) -> None:
        self._until = monotonic() + _TURN_S

    async def pause(self) -> None:
        """Let the event loop have its turn, if this has lasted long enough."""
        if monotonic() > self._until:
            await anyio.lowlevel.checkpoint()
            self._until = monotonic() + _TURN_S


class UnitSteering(CallSteering):
    """Decides for one unit.

    Args:
        planner, known, venues, records: See `Steering`.
        flow: Whose share of the lanes it counts against, without a label.
        siblings: The shares of all units of its run that are under way.
        is_alone: Whether nothing else of its run executes meanwhile.
    """

    def __init__(
        self,
        planner: Planner,
        known: Known,
        venues: Venues,
        records: Records,
        flow: object,
        siblings: set[Share],
        *,
        is_alone: bool,
    ) -> None:
        super().__init__(planner, known, venues, records)
        self._siblings = siblings
        self._flow, self._is_alone = flow, is_alone

    @property
    def _own(self) -> Mapping[Backend, float]:
        # Each of the siblings has a lane, so nobody waits for them but in the local thread, of which there is one.
        lanes: tuple[Backend, ...] = (self._venues.processes, self._venues.threads)
        shared = {backend: sum(share.own.get(backend, 0.0) for share in self._siblings) for backend in lanes}
        return {**self._share.own, **shared}

    def entrance(self, *_: object) -> str:
        """Return how it was called, as its span is named."""
        return "unit"

    async def execute(self, job: Job, args: tuple[Any, ...]) -> Any:
        """See `CallSteering.execute`."""
        self._siblings.add(self._share)
        try:
            return await super().execute(job, args)
        finally:
            self._siblings.discard(self._share)

    def told(self, unit: Unit, started: float, error: str | None) -> UnitFinished:
        """Return what is to be told of it, now that it is over."""
        now, begun = monotonic(), self._begun
        came = math.inf if self._executor is None else self._executor.begun  # as this loop has seen it: later than it was
        if came < math.inf or self.tally.busy_s:
            begun = max(begun, min(came, now - self.tally.busy_s))
        return UnitFinished(
            branch=unit.branch.name,
            unit=unit.number,
            n_units=unit.branch.n_units,
            fn=self.name,
            strategy=str(self._decision.strategy),
            reason=str(self._decision.reason),
            inner=self._known.inner,
            wait_s=begun - started,
            wall_s=now - begun,
            error=error,
            label=self.label,
        )


class BranchesRun:
    """One run over branches; made for one.

    Args:
        planner: Decides.
        plans: Makes jobs.
        venues: Where units may execute.
        records: Where decisions and counts go.
        options: The options of the call.
        costs: Seconds per unit that the user knows, by branch.
    """

    name = "run_branches"  # in place of the functions' names

    def __init__(
        self,
        planner: Planner,
        plans: Plans,
        venues: Venues,
        records: Records,
        options: CallOptions,
        costs: Mapping[str, float],
    ) -> None:
        self._planner, self._plans, self._records = planner, plans, records
        self._venues = venues._replace(outgoing=venues.outgoing.for_a_run())
        self._options, self._costs, self.label = options, costs, options.label
        self._unit_options = replace(options, on_error="raise", progress=None)  # each for itself
        self._changes = Changes()
        self._waiting: dict[Lot, deque[Unit]] = {}
        self._siblings: set[Share] = set()
        self._ordering: Ordering
        self._error: Exception | None = None
        self._has_begun = False  # and isn't refused any more
        self._started = monotonic()
        self._under_way: dict[UnitSteering, str] = {}  # with the names of their branches
        self._n_done, self._busy_s = 0, 0.0  # units that are over, and their seconds

    def entrance(self, _: list[Branch]) -> str:
        """Return how it was called, as its span is named."""
        return "run_branches"

    def ends_in(self) -> None:
        """Return nothing: what its caller will be raised, `execute` raises."""

    @traced
    async def execute(self, branches: list[Branch]) -> dict[str, Any]:
        """Have all units executed; return the branches' values by name.

        Raises:
            Exception: The first failure, unless ``on_error`` keeps it.
            ExceptionGroup: All failures, if ``on_error`` is ``group``.
        """
        lots: list[Lot] = []
        turn = _Turn()
        for branch in branches:
            for lot_units in await self._look_at(branch):
                lots.append(self._lot(lot_units))
            await turn.pause()
        self._ordering = Ordering(lots, self._n_lanes)
        try:
            await self._share()
            await observed(self._options.progress, partial(self._standing, branches), self._execute_all, branches, lots)
            return self._result(branches)
        finally:
            self._venues.outgoing.shares.clear()
            self._error = None  # tracebacks know what was executed: rings of both would stay until a garbage collection
            for branch in branches:
                branch.errors.clear()

    async def _execute_all(self, branches: list[Branch], lots: list[Lot]) -> None:
        async with anyio.create_task_group() as self._tasks:
            for _ in range(min(self._n_lanes, sum(lot.n_waiting for lot in lots))):
                self._tasks.start_soon(self._serve)
            for branch in branches:
                if not branch.n_units:
                    self._finish(branch)

    def _standing(self, branches: list[Branch]) -> Standing:
        """Return how far the run is."""
        now = [steering.standing() for steering in self._under_way]
        return Standing(
            fn=", ".join(dict.fromkeys(self._under_way.values())) or self.name,
            label=self.label,
            strategy=now[0].strategy if now else "",
            begun=self._started,
            n_items=sum(branch.n_units for branch in branches),
            n_done=self._n_done,
            n_failed=sum(len(branch.errors) for branch in branches),
            partly=sum(one.partly for one in now),
            busy_s=self._busy_s + sum(one.busy_s for one in now),
            capacity_s=(monotonic() - self._started) * self._n_lanes,
        )

    def _result(self, branches: list[Branch]) -> dict[str, Any]:
        if self._error is not None:
            raise self._error
        errors = [error for branch in branches for error in branch.in_order]
        if errors and self._options.on_error == "group":
            raise ExceptionGroup(f"{len(errors)} units of {len(branches)} branches failed", errors)
        return {branch.name: branch.value for branch in branches}

    @property
    def _n_lanes(self) -> int:
        """How many units execute side by side at most."""
        options, venues = self._options, self._venues
        if options.strategy is Strategy.SERIAL or not self._planner.has_workers:
            return 1
        most = venues.threads.limit if options.strategy is Strategy.THREADS else venues.processes.limit
        return most if options.workers in (None, -1) else min(most, options.workers or 1)

    # --- what there is to do -----------------------------------------------------------------------------------------

    async def _look_at(self, branch: Branch) -> list[list[Unit]]:
        """Return the units of a branch, the dearest first as far as is known, apart from those that run alone."""
        found: tuple[list[Unit], list[Unit]] = [], []
        options = self._unit_options
        if branch.name in self._costs:
            options = replace(options, item_cost_s=self._costs[branch.name])
        turn = _Turn()
        for number, called in enumerate(branch.calls):
            fn, args = _as_call(called)
            known = self._planner.look_at(fn, args, options, branch.name)
            if self._options.seed is not None:
                fn = Keyed(fn, self._options.seed, (*words(branch.name), number))
            found[known.inner is not None].append(Unit(branch, number, fn, args, known))
            await turn.pause()
        for part in found:
            part.sort(key=lambda unit: -(unit.known.cost.item_s or 0.0))
        return [part for part in found if part]

    def _lot(self, waiting: list[Unit]) -> Lot:
        first = waiting[0]
        costs = [cost_s for unit in waiting if (cost_s := unit.known.cost.item_s) is not None]
        learned_s = sum(costs) / len(costs) if costs else None
        lot = Lot(len(waiting), first.known.options.item_cost_s or learned_s, is_exclusive=first.known.inner is not None)
        self._waiting[lot] = deque(waiting)
        return lot

    async def _share(self) -> None:
        """Share large arrays and frames that stand in several units, so that they are stored once."""
        shares, seen = self._venues.outgoing.shares, Counter[int]()
        values: dict[int, Any] = {}
        turn = _Turn()
        for waiting in self._waiting.values():
            for unit in waiting:
                fn = unit.fn.fn if isinstance(unit.fn, Keyed) else unit.fn
                for value in (*unit.args, *(fn.keywords.values() if isinstance(fn, partial) else ())):
                    seen[id(value)] += 1
                    values[id(value)] = value
            await turn.pause()
        for key, value in values.items():
            if seen[key] > 1 and _is_data(value) and not shares.holds(value):
                shares.add(value)

    # --- doing it ----------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Execute units, one after another, for as long as some wait."""
        while self._error is None and not self._ordering.is_empty:
            now = monotonic()
            lot = self._ordering.begin(now)
            if lot is None:
                await self._changes.wait()
                continue
            unit = self._waiting[lot].popleft()
            took_s = 0.0
            try:
                took_s = await self._execute(unit, lot)
            finally:
                self._ordering.end(lot, now, took_s)
                self._changes.notify()
            unit.branch.n_left -= 1
            if not unit.branch.n_left:
                self._finish(unit.branch)

    async def _execute(self, unit: Unit, lot: Lot) -> float:
        """Execute a unit, and return how long it took."""
        branch, known = unit.branch, unit.known
        if known.cost.item_s is None and lot.cost_s is not None:  # as its siblings
            known.options = replace(known.options, item_cost_s=lot.cost_s)
        if self._has_begun:
            known.options = replace(known.options, max_wait_s=None)
        steering = UnitSteering(
            self._planner, known, self._venues, self._records, self, self._siblings, is_alone=lot.is_exclusive
        )
        job = self._plans.job(unit.fn, unit.fn, Flag.STAR, known.options)
        begun = monotonic()
        what: str | None = "cancelled"
        self._under_way[steering] = branch.name
        try:
            branch.values[unit.number] = await steering.execute(job, unit.args)
            what = None
        except Exception as error:
            what = type_name(error)
            self._fail(branch, unit.number, error)
        finally:
            del self._under_way[steering]
            self._n_done += not steering.tally.cancelled
            self._busy_s += steering.tally.busy_s
            if is_heard(UnitFinished.level):
                emit(steering.told(unit, self._started, what))
        self._has_begun = self._has_begun or not steering.tally.cancelled
        return steering.tally.busy_s or monotonic() - begun

    def _fail(self, branch: Branch, number: int, error: Exception) -> None:
        branch.name_in(error, number)
        branch.errors[number] = error
        is_closed = isinstance(error, SessionClosedError) and self._records.state == "closed"
        if (self._options.on_error == "raise" or is_closed) and self._error is None:
            self._error = error
            self._tasks.cancel_scope.cancel()

    def _finish(self, branch: Branch) -> None:
        """Put together what a branch's units have returned, if that is asked for and none has failed."""
        if branch.combine is not None and not branch.errors:
            self._tasks.start_soon(self._combine, branch)

    async def _combine(self, branch: Branch) -> None:
        """Combine in the local thread: what units return is here, and the user's own error arrives as itself."""
        assert branch.combine is not None
        options = replace(self._unit_options, strategy=Strategy.SERIAL, item_timeout_s=None, item_cost_s=None, max_wait_s=None)
        known = self._planner.look_at(branch.combine, (branch.values,), options)
        steering = UnitSteering(self._planner, known, self._venues, self._records, self, self._siblings, is_alone=False)
        job = self._plans.job(branch.combine, branch.combine, Flag.STAR, options)
        try:
            branch.combined = await steering.execute(job, (branch.values,))
        except Exception as error:
            self._fail(branch, branch.n_units, error)


def _as_call(called: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Take a call apart: its positional arguments are sent each time, as those of `run` are."""
    if not isinstance(called, partial):
        return called, ()
    fn: Callable[..., Any] = called.func
    return partial(fn, **called.keywords) if called.keywords else fn, called.args


def words(name: str) -> tuple[int, ...]:
    """Return the words of 32 bits that a branch's name stands for in the spawn keys of its units."""
    import hashlib

    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return tuple(int.from_bytes(digest[at : at + 4], "little") for at in range(0, 4 * _KEY_WORDS, 4))


def _is_data(value: Any) -> bool:
    """Whether this is a large array or frame of which each item gets a view of its own, so that no write is seen by others."""
    kind = type(value).__module__.partition(".")[0]
    if kind == "numpy":
        return getattr(getattr(value, "dtype", None), "hasobject", True) is False and value.nbytes >= FILE_BYTES
    if kind != "pandas":
        return False
    types = getattr(value, "dtypes", ())
    return all(getattr(one, "hasobject", False) is False for one in getattr(types, "array", (types,))) and size_up(value).n_bytes >= FILE_BYTES
