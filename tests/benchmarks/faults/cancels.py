"""Cancelling a call that runs, and what comes after it."""

import random
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

import anyio
import psutil

from ..contenders.base import Contender
from ..entrants import Assignment, Role, Sample
from ..quantiles import quantile
from ..remains import runs
from ..workloads import busy
from . import work
from .page import LEFT, PID, new_page
from .pools import fewest, live_workers, opened

Work = Callable[[str], None]

CANCELS, QUICK_CANCELS = 25, 5
GIL_CANCELS, QUICK_GIL_CANCELS = 10, 2
BEGIN_LIMIT_S = 30.0
STOP_LIMIT_S = 5.0  # who has not stopped by then, can't; pebble kills after 3 s
GIL_GRACE_S = 0.2
NEIGHBOURS_S = 0.2  # how long neighbours are watched before the cancel, and without one
PEEK_S = 0.0005


class StillRunningError(Exception):
    """The await returned, the work went on."""


async def cancel_cooperative(assignment: Assignment) -> Sample:
    """Cancel what asks whether to stop."""
    return await _cancels(assignment, work.cooperative)


async def cancel_loop(assignment: Assignment) -> Sample:
    """Cancel an endless loop of pure Python."""
    return await _cancels(assignment, work.loop)


async def cancel_sleep(assignment: Assignment) -> Sample:
    """Cancel a sleep of a minute."""
    return await _cancels(assignment, work.sleep)


async def _cancels(assignment: Assignment, fn: Work) -> Sample:
    """Cancel one call after the other on one worker, and have each followed by a call that is answered."""
    chance = random.Random()
    returns_s, stops_s, usable_s, replaced = [], [], [], []
    async with opened(assignment, n_workers=fewest(assignment)) as contender:
        await contender.call(work.whoami)
        for _ in range(QUICK_CANCELS if assignment.quick else CANCELS):
            with new_page(3) as (path, words):
                began_s = await _cancelled(contender, fn, path, words, chance.uniform(0.002, 0.02))
                returns_s.append(perf_counter() - began_s)
                await _stopped(words)
                stops_s.append(perf_counter() - began_s)
                pid = await contender.call(work.whoami)
                usable_s.append(perf_counter() - began_s)
                replaced.append(float(pid != words[PID]))
    return {
        "return_s": returns_s,
        "p95_s": [quantile(returns_s, 0.95)],
        "stopped_s": stops_s,
        "usable_s": usable_s,
        "replaced": [sum(replaced) / len(replaced)],
    }


async def _cancelled(contender: Contender, fn: Work, path: str, words: memoryview, after_s: float) -> float:
    """Cancel a call some time after it began, and return when that was, as soon as its await has returned."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(contender.stoppable, fn, path)
        await _begun(words)
        await anyio.sleep(after_s)
        began_s = perf_counter()
        tasks.cancel_scope.cancel()
    return began_s


async def _begun(words: memoryview) -> None:
    with anyio.fail_after(BEGIN_LIMIT_S):
        while not words[PID]:
            await anyio.sleep(PEEK_S)


async def _stopped(words: memoryview) -> None:
    """Wait until the work is over or its worker gone; kill a worker that goes on regardless."""
    began_s = perf_counter()
    while not words[LEFT] and _is_alive(words[PID]):
        if perf_counter() - began_s > STOP_LIMIT_S:
            for worker in live_workers():
                if worker.pid == words[PID]:
                    worker.kill()
            raise StillRunningError(
                f"can't: the work still ran {STOP_LIMIT_S:g} s after its await was cancelled"
            )
        await anyio.sleep(PEEK_S)


def _is_alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return runs(psutil.Process(pid))
    return False


async def cancel_gil(assignment: Assignment) -> Sample:
    """Cancel C code that holds the GIL, beside a neighbour whose calls are counted with it and without."""
    grace_s = GIL_GRACE_S if assignment.entrant.role is Role.OURS else 0.0
    returns_s, usable_s, slowed = [], [], []
    turns = assignment.iterations_per_ms
    async with opened(assignment, n_workers=2, grace_s=GIL_GRACE_S) as contender:
        for _ in range(QUICK_GIL_CANCELS if assignment.quick else GIL_CANCELS):
            await _all_up(contender, 2)
            async with _Neighbour(contender, turns) as undisturbed:
                await anyio.sleep(NEIGHBOURS_S)
            with new_page(3) as (path, words):
                async with _Neighbour(contender, turns) as disturbed:
                    began_s = await _cancelled(contender, work.hold_the_gil, path, words, NEIGHBOURS_S)
                    returns_s.append(perf_counter() - began_s)
                await _stopped(words)
                await _all_up(contender, 2)
                usable_s.append(perf_counter() - began_s)
            slowed.append(undisturbed.calls_per_s / disturbed.calls_per_s)
    return {
        "past_grace_s": [return_s - grace_s for return_s in returns_s],
        "return_s": returns_s,
        "usable_s": usable_s,
        "neighbour_slowed": slowed,
    }


class _Neighbour:
    """Calls of a millisecond, one after the other, for as long as the context lasts."""

    def __init__(self, contender: Contender, turns: int) -> None:
        self._contender = contender
        self._turns = turns
        self._n_calls = 0
        self.calls_per_s = 0.0

    async def __aenter__(self) -> "_Neighbour":
        await self._contender.call(busy, self._turns)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._is_over = False
        self._tasks.start_soon(self._call_on)
        self._began_s = perf_counter()
        return self

    async def _call_on(self) -> None:
        while not self._is_over:
            await self._contender.call(busy, self._turns)
            self._n_calls += 1

    async def __aexit__(self, *error: object) -> None:
        self.calls_per_s = self._n_calls / (perf_counter() - self._began_s)
        self._is_over = True
        if error[0] is not None:
            self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)


async def _all_up(contender: Contender, workers: int) -> None:
    """Have every worker answer: calls that last long enough to need them all, until enough of them have."""
    seen: set[int] = set()
    with anyio.fail_after(BEGIN_LIMIT_S):
        while len(seen) < workers:
            async with anyio.create_task_group() as tasks:
                for _ in range(workers):
                    tasks.start_soon(_note_who, contender, seen)


async def _note_who(contender: Contender, seen: set[int]) -> None:
    seen.add(await contender.call(work.whoami_after, 0.02))
