"""alongside.py: a task that runs beside the body of a context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
import pytest

from offloop.alongside import Alongside

pytestmark = pytest.mark.anyio


class Work:
    """A task that waits until it is cancelled, and takes its time to end."""

    def __init__(self) -> None:
        self.began, self.ended = anyio.Event(), False

    async def __call__(self) -> None:
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
            self.ended = True


async def test_the_task_ends_with_the_body(anyio_backend: object) -> None:
    """It runs while the body does, and leaving the context waits for its end."""
    work = Work()
    async with Alongside(work):
        await work.began.wait()
        assert not work.ended
    assert work.ended


async def test_a_body_that_never_waits_has_its_end_at_once(anyio_backend: object) -> None:
    """A task that never began is not begun for its end."""
    work = Work()
    with anyio.fail_after(10):
        async with Alongside(work):
            pass
    assert work.ended is work.began.is_set()


async def test_a_task_may_be_over_before_the_body(anyio_backend: object) -> None:
    """The body goes on after it."""
    ended = anyio.Event()

    async def work() -> None:
        ended.set()

    async with Alongside(work):
        await ended.wait()
        await anyio.lowlevel.checkpoint()
        n_steps = 1
    assert n_steps == 1


@pytest.mark.parametrize("error", [ValueError("mine"), ExceptionGroup("two", [ValueError(1)]), KeyboardInterrupt()], ids=repr)
async def test_what_the_body_raises_stays_as_it_is(anyio_backend: object, error: BaseException) -> None:
    """It comes out as itself, not in a group and with nothing chained to it, once the task has ended."""
    work = Work()
    with pytest.raises(type(error)) as caught:
        async with Alongside(work):
            await work.began.wait()
            raise error
    assert caught.value is error
    assert caught.value.__context__ is None
    assert work.ended


async def test_a_cancel_from_outside_waits_for_the_task(anyio_backend: object) -> None:
    """Whoever cancels the body gets on when both have ended, and the cancellation is theirs."""
    work = Work()
    with anyio.CancelScope() as scope:
        async with Alongside(work):
            await work.began.wait()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert work.ended


async def test_a_cancel_from_inside_reaches_no_further(anyio_backend: object) -> None:
    """A scope in the body that is cancelled ends there, and the task goes on."""
    work = Work()
    async with Alongside(work):
        await work.began.wait()
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        assert not work.ended
    assert work.ended


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"], indirect=True
)
async def test_a_group_of_asyncio_that_failed_in_the_body(anyio_backend: object) -> None:
    """Once the body has handled that it goes on to its end, though its task counts as cancelled ever after."""
    work, n_steps = Work(), 0

    async def fail() -> None:
        raise LookupError("mine")

    async with Alongside(work):
        await work.began.wait()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())  # as the group waits for it: then that never uncancels the body's task
        except* LookupError:
            n_steps += 1
        await anyio.lowlevel.checkpoint()
        n_steps += 1
    await anyio.lowlevel.checkpoint()
    assert (n_steps, work.ended) == (2, True)


async def test_a_cancel_while_leaving_waits_all_the_same(anyio_backend: object) -> None:
    """A body that ends as it is cancelled leaves nothing behind."""
    work = Work()
    with anyio.CancelScope() as scope:
        async with Alongside(work):
            await work.began.wait()
            scope.cancel()
    assert work.ended


async def test_a_generator_that_is_closed_in_its_body(anyio_backend: object) -> None:
    """An async generator that stands in the context when it is closed has ended the task by then."""
    work = Work()

    async def numbers() -> AsyncIterator[int]:
        async with Alongside(work):
            await work.began.wait()
            yield 1
            yield 2

    async with aclosing(numbers()) as generator:  # type: ignore[type-var]
        assert await anext(generator) == 1
    assert work.ended


async def test_one_inside_another(anyio_backend: object) -> None:
    """They end from the inside out."""
    inner, outer = Work(), Work()
    async with Alongside(outer):
        async with Alongside(inner):
            await inner.began.wait()
        assert (inner.ended, outer.ended) == (True, False)
        await outer.began.wait()
    assert outer.ended
