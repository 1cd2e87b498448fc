"""worker_init: once in every process that executes items, the same for every strategy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

import offloop
import workloads as w

pytestmark = [pytest.mark.anyio, pytest.mark.one_loop]


async def test_items_see_what_worker_init_returned(anyio_backend: object, strategy: str) -> None:
    """worker_state() is what worker_init made, wherever the item runs."""
    async with offloop.ParallelSession(strategy=strategy, worker_init=w.make_state, worker_init_args=(7,)) as session:
        assert await session.run_parallel(w.state_value, range(50)) == [(x, 7) for x in range(50)]
        assert await session.run(w.state_value, 1) == (1, 7)
        state = await session.run(w.whole_state, None)
        assert (state["pid"] == os.getpid()) == (strategy != "processes")


async def test_it_runs_once_per_process(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """However many items and calls, each process initialises once."""
    path = tmp_path / "inits"
    async with offloop.ParallelSession(strategy=strategy, worker_init=w.count_init, worker_init_args=(str(path),)) as session:
        for _ in range(3):
            await session.run_parallel(w.spin, [0.001] * 50)
        pids = w.lines(path)
        assert len(pids) == len(set(pids)) >= 1
        if strategy != "processes":
            assert pids == [str(os.getpid())]


async def test_it_does_not_run_before_it_is_needed(anyio_backend: object, strategy: str, tmp_path: Path) -> None:
    """A session without work initialises nothing."""
    path = tmp_path / "inits"
    async with offloop.ParallelSession(strategy=strategy, worker_init=w.count_init, worker_init_args=(str(path),)) as session:
        assert await session.run_parallel(w.double, []) == []
    assert w.lines(path) == []


async def test_a_lambda_will_do(anyio_backend: object, strategy: str) -> None:
    """worker_init may be any function."""
    async with offloop.ParallelSession(strategy=strategy, worker_init=lambda: {"value": "here"}) as session:
        assert await session.run(w.state_value, 1) == (1, "here")


@pytest.mark.parametrize(
    ("init", "args", "told"),
    [(w.failing_init, ("broken model",), "broken model"), (w.sys_exiting_init, (), "SystemExit")],
    ids=["raises", "sys.exit"],
)
async def test_a_failing_worker_init_is_named(
    anyio_backend: object, strategy: str, init: Any, args: tuple[Any, ...], told: str
) -> None:
    """It is a clear error that names it and what it raised: no hang, and no endless restarts."""
    async with offloop.ParallelSession(strategy=strategy, worker_init=init, worker_init_args=args) as session:
        with anyio.fail_after(15):
            for _ in range(2):
                with pytest.raises(offloop.WorkerInitError, match=init.__name__) as caught:
                    await session.run(w.double, 1)
                assert told in str(caught.value)
            with pytest.raises(offloop.WorkerInitError, match=init.__name__):
                await session.run_parallel(w.double, range(20))
            with pytest.raises(offloop.WorkerInitError, match=init.__name__):
                await session.run_parallel(w.double, range(20), on_error="collect")
        assert session.statistics().workers_started <= 8


async def test_a_failing_worker_init_keeps_its_cause(anyio_backend: object, strategy: str) -> None:
    """What worker_init raised is the cause, or at least told in the notes."""
    async with offloop.ParallelSession(
        strategy=strategy, worker_init=w.failing_init, worker_init_args=("broken model",)
    ) as session:
        with pytest.raises(offloop.WorkerInitError) as caught:
            await session.run(w.double, 1)
    notes = "\n".join(getattr(caught.value, "__notes__", ()))
    assert isinstance(caught.value.__cause__, w.OwnError) or "raise OwnError(text)" in notes


async def test_a_worker_init_that_ends_its_process_is_an_error(anyio_backend: object) -> None:
    """os._exit in worker_init is told with its exit code, and is no hang."""
    async with offloop.ParallelSession(strategy="processes", workers=2, worker_init=w.exiting_init) as session:
        with anyio.fail_after(15):
            with pytest.raises(offloop.WorkerInitError, match="exit code 9"):
                await session.run_parallel(w.double, range(10))
            with pytest.raises(offloop.WorkerInitError):
                await session.warm()


async def test_an_unpicklable_worker_init_is_an_error(anyio_backend: object) -> None:
    """worker_init arguments that can't travel are told of, and are no hang."""
    async with offloop.ParallelSession(
        strategy="processes", worker_init=w.make_state, worker_init_args=(w.Client(),)
    ) as session:
        with anyio.fail_after(15), pytest.raises((TypeError, offloop.OffloopError)):
            await session.run(w.double, 1)


async def test_without_worker_init_there_is_no_state(session: offloop.ParallelSession) -> None:
    """worker_state() is None then."""
    assert await session.run(w.whole_state, 1) is None
