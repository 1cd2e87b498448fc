"""pool/condition.py: waiting on an event loop for what others bring about, whatever loop or thread they are on."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import current_token

from offloop.pool.condition import Condition

pytestmark = pytest.mark.anyio


class Flag:
    """What is waited for; tells when somebody has looked at it."""

    def __init__(self) -> None:
        self.condition = Condition()
        self.is_set = False
        self.looked = threading.Event()

    def look(self) -> bool:
        self.looked.set()
        return self.is_set

    def set(self) -> None:
        with self.condition.lock:
            self.is_set = True
        self.condition.notify_all()


async def test_what_is_so_is_not_waited_for(anyio_backend: object) -> None:
    """Who finds it true at the first look goes on at once, and is waited with by nobody."""
    flag = Flag()
    flag.set()
    await flag.condition.wait_for(flag.look)
    assert not flag.condition._waiting


async def test_all_who_wait_are_woken(anyio_backend: object) -> None:
    """A notification from another thread reaches every task that waits."""
    flag = Flag()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(flag.condition.wait_for, flag.look)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(flag.set)
    assert not flag.condition._waiting


async def test_a_notification_that_changes_nothing_wakes_nobody_for_good(anyio_backend: object) -> None:
    """Who is woken looks again, and waits on where it isn't so."""
    flag = Flag()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flag.condition.wait_for, flag.look)
            await anyio.wait_all_tasks_blocked()
            flag.condition.notify_all()
            await anyio.wait_all_tasks_blocked()
            assert len(flag.condition._waiting) == 1
            flag.set()


async def test_who_is_cancelled_waits_no_more(anyio_backend: object) -> None:
    """Cancelling leaves nothing of the wait."""
    flag = Flag()
    with anyio.move_on_after(0) as scope:
        await flag.condition.wait_for(flag.look)
    assert scope.cancelled_caught
    assert not flag.condition._waiting
    flag.condition.notify_all()


async def test_a_notification_between_the_look_and_the_wait_is_not_lost(anyio_backend: object) -> None:
    """What becomes true just after it was looked at wakes the one who looked."""
    flag = Flag()

    def set_in_another_thread_once() -> bool:
        if not flag.looked.is_set():
            thread = threading.Thread(target=flag.set)  # gets no lock before this one waits
            threads.append(thread)
            thread.start()
        return flag.look()

    threads: list[threading.Thread] = []
    with anyio.fail_after(10):
        await flag.condition.wait_for(set_in_another_thread_once)
    threads[0].join()


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_loops_in_other_threads_are_woken(anyio_backend: object, other: str) -> None:
    """Tasks of several event loops wait for the same thing."""
    flag = Flag()
    thread = threading.Thread(target=lambda: anyio.run(flag.condition.wait_for, flag.look, backend=other))
    thread.start()
    await anyio.to_thread.run_sync(flag.looked.wait)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flag.condition.wait_for, flag.look)
            await anyio.wait_all_tasks_blocked()
            flag.set()
        await anyio.to_thread.run_sync(thread.join)


async def test_a_closed_loop_is_passed_over(anyio_backend: object) -> None:
    """Who waited on an event loop that is closed by now keeps nobody from being woken."""
    flag = Flag()

    async def token() -> object:
        return current_token().native_token

    closed = await anyio.to_thread.run_sync(lambda: anyio.run(token))
    flag.condition._waiting[anyio.Event()] = closed
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flag.condition.wait_for, flag.look)
            await anyio.wait_all_tasks_blocked()
            flag.set()


def test_the_lock_can_be_taken_by_what_is_collected_meanwhile() -> None:
    """Code that Python runs while it collects garbage may notify, though the lock is held."""
    condition = Condition()

    class Ends:
        def __init__(self, call: Callable[[], None]) -> None:
            self.call, self.itself = call, self

        def __del__(self) -> None:
            with condition.lock:
                self.call()

    Ends(condition.notify_all)
    with condition.lock:
        gc.collect()
