"""shielding.py: what is waited for to its end, whatever is cancelled meanwhile."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from offloop.pool.shielding import shielded

pytestmark = pytest.mark.anyio

BACKENDS = ["asyncio", ("asyncio", {"use_uvloop": True})]


class Work:
    """Something to wait for, which goes on when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.began, self.go, self.ended = anyio.Event(), anyio.Event(), False
        self.error = error

    async def __call__(self) -> None:
        self.began.set()
        await self.go.wait()
        self.ended = True
        if self.error is not None:
            raise self.error


async def test_a_scope_that_is_cancelled_waits(anyio_backend: object) -> None:
    """Who is cancelled meanwhile, or was before, gets on when it has ended."""
    work = Work()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shielded, work)
            with anyio.CancelScope(shield=True):
                await work.began.wait()
                await anyio.lowlevel.checkpoint()
                assert not work.ended
                work.go.set()
    assert work.ended


async def test_what_it_raises_comes_as_itself(anyio_backend: object) -> None:
    """An error isn't wrapped in a group."""
    error = LookupError("mine")
    work = Work(error)
    work.go.set()
    with pytest.raises(LookupError) as caught:
        await shielded(work)
    assert caught.value is error


@pytest.mark.parametrize("anyio_backend", BACKENDS, ids=["asyncio", "uvloop"], indirect=True)
async def test_an_asyncio_task_that_is_cancelled_waits(anyio_backend: object) -> None:
    """However often it is cancelled by itself, it gets on when that has ended, and is cancelled then."""
    work = Work()
    task = asyncio.ensure_future(shielded(work))
    await work.began.wait()
    for _ in range(3):
        task.cancel()
        await anyio.lowlevel.checkpoint()
        assert not task.done()
    work.go.set()
    await asyncio.wait([task])
    assert (work.ended, task.cancelled()) == (True, True)
