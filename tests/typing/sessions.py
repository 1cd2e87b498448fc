"""What type checkers make of sessions, settings and snapshots; checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

from offloop import (
    Decision,
    ParallelConfig,
    ParallelSession,
    Reason,
    SessionStatistics,
    Strategy,
    checkpoint,
    in_worker,
    is_cancelled,
    shield,
    worker_state,
)


def load(path: str, size: int) -> dict[str, int]:
    return {path: size}


async def a_session_is_its_own_context_manager() -> None:
    async with ParallelSession(workers=4, strategy="auto", worker_init=load, worker_init_args=("m", 3)) as session:
        assert_type(session, ParallelSession)
        assert_type(await session.warm(), None)
        assert_type(await session.warm(2), None)
        assert_type(session.statistics(), SessionStatistics)
        assert_type(session.statistics().workers, tuple[int, ...])
        assert_type(session.config, ParallelConfig)
    async with ParallelSession(max_items_per_worker=1000, worker_max_rss_bytes=2 << 30) as recycled:
        assert_type(recycled.config.max_items_per_worker, int | None)
    async with ParallelSession(max_pending=64, max_pending_bytes=1 << 30, max_wait_s=2) as limited:
        assert_type(limited.config.max_wait_s, float | None)
        assert_type(limited.statistics().pending, int)
    async with ParallelSession(ParallelConfig(grace_s=0.1), idle_timeout_s=5) as configured:
        assert_type(configured, ParallelSession)


class Tuned(ParallelSession):
    """A session of a class of one's own."""


async def a_subclass_stays_itself() -> None:
    async with Tuned() as session:
        assert_type(session, Tuned)


async def sharing_keeps_the_type(session: ParallelSession) -> None:
    table = {"a": [1.0]}
    assert_type(session.share(table), dict[str, list[float]])
    shared: dict[str, list[float]] = session.share(table)
    assert_type(await session.run(len, shared), int)
    assert_type(session.release(table), bool)


def decisions_are_typed(decision: Decision) -> None:
    assert_type(decision.strategy, Strategy)
    assert_type(decision.reason, Reason)
    assert_type(decision.reason.sentence, str)
    assert_type(decision.n_items, int | None)
    assert_type(decision.estimated_s, float | None)


def what_a_worker_can_ask_is_typed() -> None:
    assert_type(in_worker(), bool)
    assert_type(is_cancelled(), bool)
    assert_type(worker_state(), Any)
    assert_type(checkpoint(), None)
    with shield() as nothing:
        assert_type(nothing, None)
