"""Lanes are leased to whoever has work, on any event loop: nobody starves, nothing leaks, no lane is mixed up."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

import offloop
import workloads as w

RUN_S = 6.0 if os.environ.get("FAULTS_LONG") else 3.0
PRIORITIES: list[Literal["interactive", "batch"]] = ["interactive", "batch"]
LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


class Callers:
    """Callers on one event loop, which check that every answer is their own."""

    def __init__(self, session: offloop.ParallelSession, name: str, count: int = 4) -> None:
        self.session, self.name, self.count = session, name, count
        self.ends = time.monotonic() + RUN_S
        self.answers: Counter[int] = Counter()
        self.longest_wait_s = 0.0
        self.chance = random.Random(name)
        self.errors: list[BaseException] = []

    async def all(self, *others: Callable[[], Any]) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(self.count):
                tasks.start_soon(self.one, number)
            for other in others:
                tasks.start_soon(other)

    async def one(self, number: int) -> None:
        turn = 0
        last = time.monotonic()
        while time.monotonic() < self.ends:
            turn += 1
            limit_s = self.chance.random() * 0.02 if self.chance.random() < 0.3 else 30.0
            with anyio.move_on_after(limit_s):
                await self.ask(number, turn)
                self.answers[number] += 1
                now = time.monotonic()
                self.longest_wait_s = max(self.longest_wait_s, now - last)
                last = now

    async def ask(self, number: int, turn: int) -> None:
        """Make one call of any kind, label and priority; its arguments must come back."""
        token = (self.name, number, turn)
        label = self.chance.choice([None, "a", "b"])
        priority = self.chance.choice(PRIORITIES)
        kind = self.chance.random()
        if kind < 0.6:
            assert await self.session.run(w.echo, token, label=label, priority=priority) == token
        elif kind < 0.8:
            items = [(*token, i) for i in range(self.chance.randrange(1, 40))]
            assert await self.session.run_parallel(w.echo, items, label=label, priority=priority) == items
        elif kind < 0.9:
            data = repr(token).encode() * 10_000
            assert await self.session.run(w.echo, data) == data
        else:
            assert await self.session.run(w.nap, 0.003) == 0.003

    async def stall(self) -> None:
        """Hold the loop now and then, as bad code does."""
        while time.monotonic() < self.ends:
            await anyio.sleep(0.3)
            time.sleep(0.2)


def in_thread(callers: Callers, work: Callable[[], None]) -> threading.Thread:
    def call() -> None:
        try:
            work()
        except BaseException as error:
            callers.errors.append(error)

    thread = threading.Thread(target=call, name=f"loop {callers.name}", daemon=False)
    thread.start()
    return thread


def run_loops_closed_in_mid_run(callers: Callers) -> None:
    """Close one event loop after another under callers that hold leases, without telling them."""

    async def some(tasks: list[asyncio.Task[None]]) -> None:
        tasks += [asyncio.create_task(callers.one(number)) for number in range(3)]
        await asyncio.sleep(callers.chance.random() * 0.3)

    while time.monotonic() < callers.ends:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # tasks that are destroyed while they wait: the point of this
        tasks: list[asyncio.Task[None]] = []
        loop.run_until_complete(some(tasks))
        loop.close()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("strategy", ["processes", "threads"])
def test_three_event_loops_share_one_session(strategy: Any) -> None:
    """Callers on three loops, one of which stalls, cancelled at random: all get on, and get their own answers."""
    session = offloop.ParallelSession(strategy=strategy, workers=2).open()
    callers = [Callers(session, name) for name in LOOPS]
    try:
        threads = []
        for one, (name, options) in zip(callers, LOOPS.items(), strict=True):
            others = [one.stall] if name == "uvloop" else []
            threads.append(in_thread(one, lambda one=one, options=options, others=others: anyio.run(one.all, *others, **options)))
        for thread in threads:
            thread.join(RUN_S + 30)
        assert not [thread for thread in threads if thread.is_alive()]
        check(callers)
        assert anyio.run(session.run, w.echo, "after") == "after"
    finally:
        anyio.run(session.aclose)


@pytest.mark.parametrize("strategy", ["processes", "threads"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loop_closed_in_mid_run_takes_no_lane_with_it(strategy: Any) -> None:
    """Beside loops that are closed under their callers, callers on other loops get on as if nothing were."""
    session = offloop.ParallelSession(strategy=strategy, workers=2).open()
    steady = [Callers(session, name) for name in ("asyncio", "trio")]
    rough = Callers(session, "closed")
    try:
        threads = [in_thread(one, lambda one=one: anyio.run(one.all, **LOOPS[one.name])) for one in steady]
        threads.append(in_thread(rough, lambda: run_loops_closed_in_mid_run(rough)))
        for thread in threads:
            thread.join(RUN_S + 30)
        assert not [thread for thread in threads if thread.is_alive()]
        check(steady)
        assert not rough.errors
        assert rough.answers.total() > 0
        assert anyio.run(session.run, w.echo, "after") == "after"
        assert len(session.statistics().workers) <= 2
    finally:
        anyio.run(session.aclose)


def check(callers: list[Callers]) -> None:
    for one in callers:
        assert not one.errors, one.errors
        assert set(one.answers) == set(range(one.count)), f"starved on {one.name}: {one.answers}"
        assert one.longest_wait_s < RUN_S * 2 / 3, f"{one.name} waited {one.longest_wait_s:.1f} s"


def test_a_lane_is_not_lost_with_its_holders_loop(tmp_path: Path) -> None:
    """A loop closed while its call holds the only lane: the next caller, on another loop, gets one."""
    path = f"{tmp_path}/run"
    session = offloop.ParallelSession(strategy="processes", workers=1).open()
    try:
        loop = asyncio.new_event_loop()

        async def hold() -> asyncio.Task[str]:
            task = asyncio.create_task(session.run(w.loop_until_cancelled, path))
            await w.appears(f"{path}.began")
            return task

        task = loop.run_until_complete(hold())
        loop.close()

        async def next_caller() -> int:
            with anyio.fail_after(15):
                return await session.run(w.echo, 1)

        assert anyio.run(next_caller, backend="trio") == 1
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task
    finally:
        anyio.run(session.aclose)
