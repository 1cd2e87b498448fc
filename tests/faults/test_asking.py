"""Questions and answers that fail on their way, and items that leave their question."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import inquisitive as q
import offloop
import workloads as w

pytestmark = pytest.mark.anyio

GRACE_S = 0.3
MARGIN_S = 0.5 + 1.5  # the promise, and what two busy cores may add to it
NOTHING_S = 0.2  # for so long it is seen that something does not happen


@pytest.fixture(scope="module")
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    async with offloop.ParallelSession(strategy="processes", workers=1, idle_timeout_s=600) as session:
        await w.start_all(session, "processes")
        yield session


class Handler:
    """Blocks at its first question until it may go on; knows how many questions it is at."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.may_go_on, self.second = threading.Event(), threading.Event()
        self.n_active = self.most_active = self.n_asked = 0

    def __call__(self, question: Any) -> Any:
        self.n_active += 1
        self.n_asked += 1
        self.most_active = max(self.most_active, self.n_active)
        if self.n_asked == 1:
            Path(f"{self.path}.asked").touch()
            self.may_go_on.wait(30)
        else:
            self.second.set()
        self.n_active -= 1
        return question, self.n_asked


async def dies(pid: int) -> None:
    """Wait until a process of ours is gone."""
    with anyio.fail_after(20):
        while os.path.exists(f"/proc/{pid}"):
            await anyio.sleep(0.002)


# --- what can't travel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "handler", "why"),
    [
        (q.ask_for_lock, w.echo, r"question can't be pickled: question\[0\]  \(_thread.lock\)"),
        (q.ask_unreadably, w.echo, "unpickling the question at the caller's raised ZeroDivisionError"),
        (partial(q.ask, 0), q.lock, r"answer can't be pickled: answer\['lock'\]  \(_thread.lock\)"),
        (partial(q.ask, 0), q.unreadable, "unpickling the answer in the worker raised ZeroDivisionError"),
        (partial(q.ask, 0), q.oddly, "the handler raised inquisitive.Odd: odd"),
    ],
)
async def test_what_can_not_travel(session: offloop.ParallelSession, fn: Any, handler: Any, why: str) -> None:
    """A question, an answer or an exception that can't travel is an error that says so, raised by `ask`; the worker stays."""
    workers = session.statistics().workers
    with pytest.raises(offloop.AskError, match=why):
        await session.run(fn, answer=handler)
    assert await session.run(q.ask, 2, answer=w.double) == 4
    assert session.statistics().workers == workers


async def test_no_thread_for_the_handler(session: offloop.ParallelSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be had for the handler, the item gets an error."""
    really = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "offloop-answer":
            raise RuntimeError("can't start new thread")
        really(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(offloop.AskError, match="can't start new thread"):
        await session.run(q.ask, 0, answer=w.echo)
    monkeypatch.undo()
    assert await session.run(q.ask, 2, answer=w.double) == 4


# --- items that ask oddly --------------------------------------------------------------------------------------------


async def test_a_wait_that_is_broken_off(session: offloop.ParallelSession) -> None:
    """If a signal handler of fn's own ends the wait for an answer, the next question gets its own answer, after that."""
    may_go_on, answered = threading.Event(), []

    def handler(question: Any) -> Any:
        if question[0] == "slow":
            may_go_on.wait(30)
        answered.append(question)
        return question

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_let_go_on, may_go_on)
        assert await session.run(q.ask_under_alarm, 5, answer=handler) == ("alarm", ("quick", 5))
    assert answered == [("slow", 5), ("quick", 5)]


async def _let_go_on(event: threading.Event) -> None:
    await anyio.sleep(NOTHING_S)
    event.set()


async def test_a_forked_process_can_not_ask(session: offloop.ParallelSession) -> None:
    """A process that an item forks gets an error, and the lane is not touched."""
    assert "forked" in await session.run(q.ask_forked, 0, answer=w.echo)
    assert await session.run(q.ask, 2, answer=w.double) == 4


# --- deaths and time limits ------------------------------------------------------------------------------------------


async def test_a_worker_that_dies_while_it_waits(anyio_backend: object, tmp_path: Path) -> None:
    """The item runs again and asks again, once the handler has answered the dead one."""
    path = f"{tmp_path}/run"
    handler, results = Handler(path), []

    async def call() -> None:
        results.append(await session.run(q.ask_then_die, path, 3, answer=handler))

    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        await session.warm()
        (worker,) = session.statistics().workers
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await dies(worker)
            assert not handler.second.wait(NOTHING_S)
            handler.may_go_on.set()
    assert results == [(3, 2)]
    assert (handler.n_asked, handler.most_active) == (2, 1)


async def test_cancelling_beside_a_dead_worker(anyio_backend: object, tmp_path: Path) -> None:
    """Cancelling waits for the handler also if the worker that asked is dead."""
    path = f"{tmp_path}/run"
    handler = Handler(path)
    async with offloop.ParallelSession(strategy="processes", workers=1) as session:
        await session.warm()
        (worker,) = session.statistics().workers
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(session.run, q.ask_then_die, path, 3, answer=handler, grace_s=10.0))
            await dies(worker)
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
                assert handler.n_active == 1
                handler.may_go_on.set()
        assert (handler.n_asked, handler.n_active) == (1, 0)
        assert await session.run(q.ask, 2, answer=w.double) == 4


@pytest.mark.parametrize("fn", [q.ask_and_note, q.ask_shielded])  # the latter costs its worker
async def test_a_handler_that_outlasts_the_time_limit(anyio_backend: object, tmp_path: Path, fn: Any) -> None:
    """A call whose time is over waits for its handler no longer than grace, and then leaves it."""
    path = f"{tmp_path}/run"
    handler, told = Handler(path), []
    remove = offloop.add_sink(lambda event: told.append(event.event))
    try:
        async with offloop.ParallelSession(strategy="processes", workers=1) as session:
            await session.warm()
            begun = anyio.current_time()
            with pytest.raises(offloop.ItemTimeout):
                await session.run(partial(fn, path), answer=handler, timeout_s=0.1, grace_s=GRACE_S)
            assert anyio.current_time() - begun < 0.1 + GRACE_S + MARGIN_S
            assert handler.n_active == 1
            assert told.count("item.abandoned") == 1
            assert await session.run(q.ask, 2, answer=w.double) == 4
    finally:
        remove()
        handler.may_go_on.set()
    with anyio.fail_after(10):
        while handler.n_active:
            await anyio.sleep(0.002)
