"""Measuring one function: every variant is tried and checked first, then all take turns."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import anyio

from .. import OffloopError, ParallelSession, add_sink
from ..cli.amounts import counted
from ..model import Reason, Strategy
from .checking import Told, complaints, idle_workers, same, sightings
from .outcomes import Findings, Row
from .plan import (
    MOST_ROUNDS,
    SHARE_OF_REHEARSAL,
    Sweep,
    Variant,
    affordable_counts,
    affordable_variants,
    counts_of,
    variants,
)
from .witness import Seen, Witness
from .workloads import Work

SAMPLE_S = 0.005  # a sample is the median of calls over so long at least
MOST_CALLS = 50
SHORT_S = 0.5  # of a run
PROBES = 5  # the first call is slower than others, since it imports what it needs
PROBE_SHARE = 0.03  # of the time there is, unless one takes longer
PATIENCE = 20.0  # a run that takes so many times as long as it should have is stopped,
LEAST_PATIENCE_S = 10.0  # though not before that
MOST_WITNESSED = 3  # workers that are still waking up take no part in a short run
OVERTIME = 0.1  # of the time there is: for the last variant that is tried

Say = Callable[[str], None]


class OutOfTime(Exception):
    """The budget is too small for even one serial run of the fewest items."""


@dataclass
class _Tried:
    """What is known so far of one variant."""

    once_s: float = 0.0
    samples_s: list[float] = field(default_factory=list)
    ran: Counter[tuple[str, str]] = field(default_factory=Counter)
    complaints: dict[str, None] = field(default_factory=dict)
    error: str | None = None
    remark: str | None = None

    def row(self, variant: Variant) -> Row:
        ran, reason = self.ran.most_common(1)[0][0] if self.ran else ("", "")
        return Row(
            variant=variant,
            samples_s=tuple(self.samples_s),
            ran=ran,
            reason=reason,
            complaints=tuple(self.complaints),
            error=self.error,
            remark=self.remark,
        )


class Bench:
    """Measures one function.

    Args:
        work: The function and its items.
        sweep: What is to be varied.
        budget_s: About how many seconds it may take in all.
        say: Is told what is under way.
    """

    def __init__(self, work: Work, sweep: Sweep, budget_s: float, say: Say) -> None:
        self._work, self._sweep, self._say = work, sweep, say
        self._budget_s = budget_s
        self._began_s = perf_counter()
        self._told = Told()
        self._tried: dict[Variant, _Tried] = {}
        self._notes: list[str] = []
        self._expected: Sequence[Any] | None = None
        self._is_comparable = True
        self._options: dict[str, Any] = {} if work.seed is None else {"seed": work.seed}

    async def measure(self) -> Findings:
        """Measure all variants that there is time for.

        Cancelling stops what is under way.

        Raises:
            Exception: What the function raised when it was called serially.
            OutOfTime: One serial run of the fewest items takes longer than the budget.
        """
        remove = add_sink(lambda event: self._told.hear(event))
        try:
            async with ParallelSession(workers=self._sweep.most_workers) as session:
                self._session = session
                await session.warm()
                wanted = await self._wanted()
                await self._rehearse(wanted)
                kept = self._kept()
                rounds = await self._take_turns(kept)
        finally:
            remove()
        measured = {variant: tried for variant, tried in self._tried.items() if variant in kept or tried.error}
        return Findings(
            name=self._work.name,
            description=self._work.description,
            n_items=len(self._work.items),
            rows=tuple(tried.row(variant) for variant, tried in measured.items()),
            rounds=rounds,
            left_out=tuple(variant for variant in wanted if variant not in measured),
            notes=(*self._notes, *self._afterthoughts()),
            wall_s=self._elapsed_s(),
        )

    async def _wanted(self) -> list[Variant]:
        """Return what to measure, by what the fewest items take serially."""
        counts = counts_of(self._sweep, len(self._work.items))
        probe = Variant(n_items=counts[0], strategy=Strategy.SERIAL)
        with anyio.move_on_after(self._budget_s):
            self._say(f"{self._work.name}: one serial run of {counted(counts[0], 'item')}")
            runs_s: list[float] = []
            while len(runs_s) < PROBES and sum(runs_s) < PROBE_SHARE * self._budget_s:
                runs_s.append((await self._run(self._session, probe, self._work.fn))[0])
            kept = affordable_counts(counts, min(runs_s) / counts[0], self._budget_s, self._sweep.most_workers)
            if kept != counts:
                told = ", ".join(f"{count:,}" for count in kept)
                self._notes.append(f"numbers of items cut down to {told} of {len(self._work.items):,}, to fit the time")
            return variants(self._sweep, kept)
        raise OutOfTime

    async def _rehearse(self, wanted: Sequence[Variant]) -> None:
        """Try variants in their order while there is time, see where they execute and what they return."""
        for number, variant in enumerate(wanted, 1):
            is_essential = number <= self._sweep.n_essential
            left_s = SHARE_OF_REHEARSAL * self._budget_s - self._elapsed_s()
            if left_s < 0 and not is_essential:
                return
            self._say(f"{self._work.name}: trying {number} of {len(wanted)}, {variant}")
            self._tried[variant] = _Tried()
            with anyio.move_on_after(None if is_essential else left_s + OVERTIME * self._budget_s) as scope:
                await self._try(variant, self._tried[variant])
            if scope.cancelled_caught:
                del self._tried[variant]  # there is no time for it

    async def _try(self, variant: Variant, tried: _Tried) -> None:
        """See where a variant executes, what it returns and how long it takes."""
        is_first = self._expected is None
        if is_first:
            self._expected = await self._attempt(variant, tried)
            if self._expected is None:
                raise OutOfTime
        if variant.is_fixed:
            await self._witness(variant, tried)
        if is_first and tried.error is not None:  # the same function on the same items, serially
            self._is_comparable, tried.error = False, None
            self._notes.append("results are not compared with those of serial: two serial runs differ")
        if not variant.is_fixed or tried.once_s < SHORT_S:  # what is short takes longer with a witness
            await self._attempt(variant, tried)

    async def _witness(self, variant: Variant, tried: _Tried) -> None:
        """See where a variant executes; again if it was too short for all workers to take part."""
        for _ in range(MOST_WITNESSED):
            seen = await self._attempt(variant, tried, Witness)
            if seen is None or tried.complaints:
                return
            tried.remark = idle_workers(variant, [Seen(*each) for each in seen])
            if tried.remark is None or tried.once_s > SHORT_S:
                return

    def _kept(self) -> list[Variant]:
        durations = {variant: tried.once_s for variant, tried in self._tried.items() if tried.error is None}
        return affordable_variants(durations, self._budget_s - self._elapsed_s(), self._sweep)

    async def _take_turns(self, kept: Sequence[Variant]) -> int:
        """Measure all, each round in an order of its own, so that what changes on the machine changes for all alike.

        Returns:
            How many rounds it was; without a number of the user's, as many as there is time for.
        """
        chance = random.Random(0)
        rounds = 0
        while rounds < (self._sweep.rounds or MOST_ROUNDS):
            began_s = self._elapsed_s()
            rounds += 1
            self._say(f"{self._work.name}: round {rounds}")
            for variant in chance.sample(kept, len(kept)):
                await self._sample(variant, self._tried[variant])
            ended_s = self._elapsed_s()
            if self._sweep.rounds is None and 2 * ended_s - began_s > self._budget_s:
                break  # another one would take too long
        return rounds

    async def _sample(self, variant: Variant, tried: _Tried) -> None:
        calls_s: list[float] = []
        gc.collect()
        while not calls_s or (sum(calls_s) < SAMPLE_S and len(calls_s) < MOST_CALLS and not variant.is_first):
            results = await self._attempt(variant, tried)
            if results is None:
                return
            calls_s.append(tried.once_s)
        tried.samples_s.append(median(calls_s))

    async def _attempt(
        self, variant: Variant, tried: _Tried, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    ) -> list[Any] | None:
        """Make one run and check it; return what it returns, or None where it failed."""
        if tried.error is not None:
            return None
        fn = self._work.fn if wrapper is None else wrapper(self._work.fn)
        returned: list[Any] | None = None
        try:
            with anyio.move_on_after(self._budget_s if self._expected is None else self._patience_s(tried)):
                if variant.is_first:
                    async with ParallelSession(workers=self._sweep.most_workers) as fresh:
                        tried.once_s, returned = await self._run(fresh, variant, fn)
                else:
                    tried.once_s, returned = await self._run(self._session, variant, fn)
        except Exception as error:
            if self._expected is None:
                raise
            tried.error = described(error)
            return None
        if returned is None:
            tried.error = "stopped: it took too long"
            return None
        tried.complaints.update(dict.fromkeys(complaints(variant, self._told)))
        if wrapper is None:
            tried.ran[self._told.ran, self._told.reason] += 1
            self._compare(variant, tried, returned)
        else:
            if not tried.complaints:
                tried.complaints.update(dict.fromkeys(sightings(variant, [Seen(*each) for each in returned])))
            self._compare(variant, tried, [result for _, _, result in returned])
        return returned

    async def _run(self, session: ParallelSession, variant: Variant, fn: Callable[..., Any]) -> tuple[float, list[Any]]:
        """Return the seconds that a run takes, and its results."""
        items = self._work.items[: variant.n_items]
        options = dict(self._options)
        if variant.is_fixed:
            options |= {"workers": variant.workers, "chunk_size": variant.chunk_size}
        else:
            options["thread_safe"] = self._work.is_thread_safe
        self._told = Told()
        began_s = perf_counter()
        results = await session.run_parallel(fn, items, strategy=variant.strategy, **options)
        return perf_counter() - began_s, results

    def _compare(self, variant: Variant, tried: _Tried, results: Sequence[Any]) -> None:
        if self._expected is None or not self._is_comparable:
            return
        expected = list(self._expected[: variant.n_items])
        if same(list(results), expected) is False:
            wrong = next((at for at, pair in enumerate(zip(results, expected, strict=False)) if same(*pair) is False), None)
            tried.error = f"other results than serial, the first at index {wrong}"

    def _patience_s(self, tried: _Tried) -> float:
        reference = next(iter(self._tried.values()))
        return max(LEAST_PATIENCE_S, PATIENCE * max(tried.once_s, reference.once_s))

    def _elapsed_s(self) -> float:
        return perf_counter() - self._began_s

    def _afterthoughts(self) -> list[str]:
        """Return what the rows don't say by themselves."""
        reasons = {reason for tried in self._tried.values() for _, reason in tried.ran}
        notes = []
        if Reason.CI in reasons:
            notes.append("`auto` is serial under CI; write OFFLOOP_PARALLEL=on to let it choose")
        if Strategy.THREADS not in self._sweep.strategies:
            notes.append("threads are left out: --thread-safe says that the function may run in several at once")
        return notes


def described(error: BaseException) -> str:
    """Return what went wrong, in a line, without values of the user's."""
    first = str(error).partition("\n")[0] if isinstance(error, OffloopError) else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
