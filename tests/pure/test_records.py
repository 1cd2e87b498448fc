"""records.py: which runs a session admits, and which it waits for."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from offloop.admission import Admission
from offloop.errors import Overloaded, SessionClosedError
from offloop.records import Records, Whole
from offloop.settings import ParallelConfig
from offloop.tally import Tally
from offloop.worker import task

pytestmark = pytest.mark.anyio


class FakeRun:
    """A run that does nothing."""

    grace_s = 1.0
    name, label = "fn", None

    def __init__(self, submitted: int = 0, n_bytes: float = 0.0) -> None:
        self.tally = Tally()
        self.tally.submitted, self.n_bytes = submitted, n_bytes

    def stop(self, error: Exception) -> None:
        """Do nothing."""


class FakeBackend:
    """Workers that nobody waits for."""

    backlog_s = interactive_s = 0.0
    limit = 2


def books(**settings: Any) -> Records:
    """Return the books of an open session."""
    workers: Any = FakeBackend()
    records = Records(Admission(ParallelConfig(**settings), workers), None)
    records.state = "open"
    return records


def whole(records: Records) -> Any:
    """Return the context of a run that is more than its items."""
    return records.whole(Whole("fn", None))


@pytest.fixture
def records() -> Records:
    """The books of an open session."""
    return books()


@pytest.fixture
def as_item(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the calling thread look as if it executed an item."""
    monkeypatch.setattr(task.current, "task", object())
    yield
    monkeypatch.undo()


@pytest.mark.parametrize("state", ["not open", "draining", "closed"])
async def test_a_run_is_admitted_to_an_open_session_only(anyio_backend: object, records: Records, state: Any) -> None:
    """What is refused is told the state and leaves nothing in the books."""
    run = FakeRun()
    records.state = state
    with pytest.raises(SessionClosedError, match=state):
        records.check_open()
    with pytest.raises(SessionClosedError, match=state):
        records.begun(run)
    with pytest.raises(SessionClosedError, match=state), whole(records):
        pytest.fail("admitted")
    assert records.is_quiet
    records.state = "open"
    records.begun(run)
    assert not records.is_quiet


@pytest.mark.usefixtures("as_item")
async def test_an_item_is_admitted_while_the_session_drains(anyio_backend: object, records: Records) -> None:
    """What an item starts in this process is admitted until the session is closed."""
    run = FakeRun()
    records.state = "draining"
    records.begun(run)
    records.state = "closed"
    with pytest.raises(SessionClosedError):
        records.begun(FakeRun())
    assert [found for found, _ in records.under_way()] == [run]


async def test_what_belongs_to_a_whole_is_admitted_as_long_as_that_lasts(
    anyio_backend: object, records: Records
) -> None:
    """Also in tasks that it starts, but neither after its end nor in tasks of others."""
    over, refused = anyio.Event(), 0

    async def late() -> None:
        nonlocal refused
        await over.wait()
        with pytest.raises(SessionClosedError):
            records.check_open()
        refused += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(late)
        with whole(records):
            records.state = "draining"
            records.check_open()
            with whole(records):
                tasks.start_soon(late)
            records.check_open()
            await anyio.to_thread.run_sync(records.check_open)
            assert not records.is_quiet
        assert records.is_quiet
        with pytest.raises(SessionClosedError):
            records.check_open()
        over.set()
    assert refused == 2


async def test_a_whole_of_one_session_is_nothing_to_another(anyio_backend: object, records: Records) -> None:
    """A run that reads from another session's run is refused there like anything else."""
    other = books()
    other.state = "draining"
    with whole(records), pytest.raises(SessionClosedError):
        other.check_open()


@pytest.mark.parametrize("settings", [{"max_pending": 2}, {"max_pending_bytes": 250}], ids=lambda settings: next(iter(settings)))
async def test_one_too_many_is_refused(anyio_backend: object, settings: dict[str, int]) -> None:
    """A run beyond the limit leaves nothing in the books; once another is over there is room again."""
    records = books(**settings)
    one, other, third = (FakeRun(n_bytes=100.0) for _ in range(3))
    records.begun(one)
    records.begun(other)
    with pytest.raises(Overloaded) as refused:
        records.begun(third)
    assert (refused.value.why, refused.value.pending, refused.value.limit) == (*settings, 2, *settings.values())
    assert (records.n_pending, records.admission.refused) == (2, 1)
    records._drop(id(one))
    records.begun(third)
    assert [run for run, _ in records.under_way()] == [other, third]


async def test_what_is_more_than_its_items_counts_once(anyio_backend: object) -> None:
    """A whole is one call, and what it starts is part of that: neither refused nor counted."""
    records = books(max_pending=1)
    part, stranger = FakeRun(), FakeRun()
    with whole(records):
        assert records.n_pending == 1
        records.begun(part)
        with whole(records):
            pass
    assert records.n_pending == 0
    records.begun(stranger)
    with pytest.raises(Overloaded), whole(records):
        pytest.fail("admitted")
    assert records.n_pending == 1


@pytest.mark.usefixtures("as_item")
async def test_what_an_item_starts_is_part_of_its_run(anyio_backend: object) -> None:
    """An item in this process that could not start a run would make its own one fail: it isn't counted."""
    records = books(max_pending=1)
    runs = [FakeRun() for _ in range(3)]
    for run in runs:
        records.begun(run)
    assert records.n_pending == 0


async def test_a_run_that_is_collected_is_not_waited_for(anyio_backend: object, records: Records) -> None:
    """A run that vanished without an end, in whatever thread, wakes those who wait for it."""
    runs = [FakeRun(2), FakeRun(3)]
    for run in runs:
        records.begun(run)
    del run
    assert records.n_left == 5

    def drop() -> None:
        runs.clear()
        gc.collect()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(records.changed.wait_for, lambda: records.is_quiet)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(drop)
    assert (records.runs, records.n_left) == ({}, 0)


async def test_runs_of_closed_loops_are_forgotten(anyio_backend: object, records: Records) -> None:
    """A run that can't go on is not waited for, though something still holds it; others are."""
    here, there = FakeRun(), FakeRun()

    async def begin() -> None:
        records.begun(there)

    thread = threading.Thread(target=lambda: asyncio.run(begin()))
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    records.begun(here)
    records.forget_closed()
    assert [run for run, _ in records.under_way()] == [here]


async def test_a_forked_child_has_no_runs(anyio_backend: object, records: Records) -> None:
    """The runs are the parent's, and a lock that somebody held at the fork is nobody's in the child."""
    run = FakeRun()
    records.begun(run)
    held = records.changed.lock
    with held, whole(records):
        records.leave_behind()
        assert records.is_quiet
        assert records.changed.lock is not held
