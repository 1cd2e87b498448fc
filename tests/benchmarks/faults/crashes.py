"""Workers killed while they work, and what their callers get."""

import random
from collections import Counter
from contextlib import suppress
from time import perf_counter

import anyio
import psutil

from ..contenders.base import Contender
from ..contenders.ours import Offloop
from ..entrants import Assignment, Sample
from . import work
from .page import PID, new_page
from .pools import fewest, live_workers, opened

PEEK_S = 0.0005
COUNT_EVERY_S = 0.002  # counting 10,000 items takes a third of a millisecond
BEGIN_LIMIT_S = 30.0
CRASHES, QUICK_CRASHES = 5, 2
CALLS, CALLERS, CALL_MS, KILL_EVERY_S = 300, 12, 12, 0.3
CALLS_LIMIT_S = 60.0  # calls without an answer by then won't get one
ITEMS, KILLS, ITEM_MS = 10_000, 500, 2
QUICK_SHARE = 10
RETRIES = 5
MAP_LIMIT_S = 480.0


async def crash_next(assignment: Assignment) -> Sample:
    """Kill a worker in its call; the next call is made as soon as that one has failed."""
    starts_s, nexts_s = [], []
    for _ in range(QUICK_CRASHES if assignment.quick else CRASHES):
        began_s = perf_counter()
        async with opened(assignment, n_workers=fewest(assignment), retries=0) as contender:
            await contender.call(work.whoami)
            starts_s.append(perf_counter() - began_s)
            nexts_s.append(await _next_s(contender))
    return {"next_s": nexts_s, "start_s": starts_s}


async def _next_s(contender: Contender) -> float:
    with new_page(3) as (path, words):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_failing, contender, path)
            with anyio.fail_after(BEGIN_LIMIT_S):
                while not words[PID]:
                    await anyio.sleep(PEEK_S)
            began_s = perf_counter()
            psutil.Process(words[PID]).kill()
        contender.renew()
        await contender.call(work.whoami)
        return perf_counter() - began_s


async def _failing(contender: Contender, path: str) -> None:
    with suppress(Exception):
        await contender.call(work.loop, path)


async def kill_calls(assignment: Assignment) -> Sample:
    """Make single calls, so many at a time, while a worker is killed again and again."""
    async with opened(assignment, n_workers=assignment.workers) as contender:
        await contender.call(work.whoami)
        with new_page(2 * CALLS) as (path, words):
            calls = _Calls(contender, work.Marked(path, CALL_MS * assignment.iterations_per_ms))
            kills = _Kills(words, calls.right)
            began_s = perf_counter()
            async with anyio.create_task_group() as killing:
                killing.start_soon(kills.every, KILL_EVERY_S)
                with anyio.move_on_after(CALLS_LIMIT_S) as limit:
                    await calls.make(is_renewed=assignment.entrant.way == "renewed")
                killing.cancel_scope.cancel()
            wall_s = perf_counter() - began_s
        if limit.cancelled_caught:  # what hangs must not hang the closing
            for worker in live_workers():
                worker.kill()
    failed = set(range(CALLS)) - calls.right
    return {
        "failed": [len(failed)],
        "lost": [len(failed - kills.killed_twice)],
        "unanswered": [len(failed) - calls.n_refused],
        "kills": [kills.count],
        "wall_s": [wall_s],
    }


class _Calls:
    """Single calls by a few callers, and which of them were answered rightly."""

    def __init__(self, contender: Contender, fn: work.Marked) -> None:
        self._contender = contender
        self._fn = fn
        self._items = iter(range(CALLS))
        self.right: set[int] = set()
        self.n_refused = 0

    async def make(self, *, is_renewed: bool) -> None:
        """Make them all; a broken pool is replaced where that is asked for."""
        async with anyio.create_task_group() as callers:
            for _ in range(CALLERS):
                callers.start_soon(self._caller, is_renewed)

    async def _caller(self, is_renewed: bool) -> None:
        for item in self._items:
            try:
                result = await self._contender.call(self._fn, item)
            except Exception:
                self.n_refused += 1
                await anyio.sleep(PEEK_S)  # a pool that refuses at once would starve the killer
                if is_renewed:
                    self._contender.renew()
                continue
            if result == item + work.SHIFT:
                self.right.add(item)


class _Kills:
    """Kills of workers that have begun an item, one at random each time; the page tells which item each is at.

    One that only starts is left alone: on a busy machine nobody would ever get to work.
    """

    def __init__(self, words: memoryview, answered: set[int]) -> None:
        self._words = words
        self._answered = answered
        self._deaths: Counter[int] = Counter()
        self._dead: set[int] = set()
        self.count = 0

    @property
    def killed_twice(self) -> set[int]:
        """The items that had their worker killed under them twice or more: more than one retry can bear."""
        return {item for item, times in self._deaths.items() if times > 1}

    async def every(self, interval_s: float) -> None:
        """Kill one at every interval at whose end there is one, until cancelled."""
        while True:
            await anyio.sleep(interval_s)
            if victims := self._at_work():
                self._kill(random.choice(victims))

    async def by_progress(self, n_kills: int) -> None:
        """Kill so many, each after about as many items more, until cancelled."""
        done = self._words[1::2]
        spacing = len(done) / n_kills
        while self.count < n_kills:
            due = (self.count + random.random()) * spacing
            while not (sum(done) >= due and (victims := self._at_work())):
                await anyio.sleep(COUNT_EVERY_S)
            self._kill(random.choice(victims))

    def _at_work(self) -> list[psutil.Process]:
        begun = set(self._words[0::2]) - self._dead
        return [worker for worker in live_workers() if worker.pid in begun]

    def _kill(self, victim: psutil.Process) -> None:
        victim.suspend()  # so that what it is at is what it dies of
        for item in range(len(self._words) // 2):
            if self._words[2 * item] == victim.pid and item not in self._answered:
                self._deaths[item] += 1
        victim.kill()
        self._dead.add(victim.pid)
        self.count += 1


async def kill_map(assignment: Assignment) -> Sample:
    """Map over many items while workers are killed at random; hold every result against what it has to be."""
    share = QUICK_SHARE if assignment.quick else 1
    items = list(range(ITEMS // share))
    turns = ITEM_MS * assignment.iterations_per_ms
    async with opened(assignment, n_workers=assignment.workers, retries=RETRIES) as contender:
        await contender.call(work.whoami)
        with new_page(2 * len(items)) as (path, words):
            began_s = perf_counter()
            kills = _Kills(words, set())
            async with anyio.create_task_group() as killing:
                killing.start_soon(kills.by_progress, KILLS // share)
                with anyio.fail_after(MAP_LIMIT_S):
                    results = await _mapped(contender, path, turns, items)
                killing.cancel_scope.cancel()
            wall_s = perf_counter() - began_s
            again = sum(max(0, times - 1) for times in words[1::2])
    expected = [item + work.SHIFT for item in items]
    wrong = sum(result != right for result, right in zip(results, expected, strict=False))
    return {
        "wrong": [wrong + abs(len(results) - len(expected))],
        "done_again": [again],
        "kills": [kills.count],
        "wall_s": [wall_s],
    }


async def _mapped(contender: Contender, path: str, turns: int, items: list[int]) -> list[object]:
    fn = work.Marked(path, turns)
    if isinstance(contender, Offloop):
        results = await contender.session.run_parallel(fn, items, strategy="processes", on_error="collect")
        return list(results)
    return list(await contender.map(fn, items))
