"""Measuring a function on a session, as a run would, and deciding by that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import anyio

from .. import Decision, ParallelSession, Reason, Strategy
from .target import MOST_ITEMS

_ENOUGH_S = 0.010  # what the library itself measures for
_LONG_S = 0.5  # an item that takes longer is not run again to see what of that was an import; a guess


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where a function would execute, and what that rests on.

    Attributes:
        decision: What would be done with all items by a session without workers so far.
        n_measured: How many calls were made to measure items, of the first one two; 0 where the cost was given.
        measured_s: Seconds that these executed.
        leaves_serial_at: From about how many items on it would not be serial; None where it isn't, or never would.
        ran_s: Seconds that all items took; None if they were not to run.
        ran: The decision that they were run by at the end.
    """

    decision: Decision
    n_measured: int
    measured_s: float
    leaves_serial_at: int | None = None
    ran_s: float | None = None
    ran: Decision | None = None


class _Work(NamedTuple):
    """What is asked about: a function, its items, and options of `run_parallel`."""

    fn: Callable[..., Any]
    items: list[Any]
    options: dict[str, Any]


class _Measured(NamedTuple):
    """What was run to measure items: how many, and for how many seconds."""

    n_items: int = 0
    busy_s: float = 0.0


def explained(fn: Callable[..., Any], items: list[Any], options: dict[str, Any], *, is_run: bool = False) -> Explanation:
    """Run the first items and return where all of them would execute.

    Args:
        fn: The function.
        items: The items.
        options: Of `run_parallel`; with ``item_cost_s`` nothing is run.
        is_run: Whether to run all items then.

    Raises:
        Exception: As `run_parallel`.
    """
    return anyio.run(_explained, _Work(fn, items, options), is_run)


async def _explained(work: _Work, is_run: bool) -> Explanation:
    async with ParallelSession() as session:
        if not work.items or "item_cost_s" in work.options:
            return await _decided(session, work, _Measured(), is_run)
        first = await _measure(session, work, 1)
        if len(work.items) == 1 or first.busy_s > _LONG_S:
            return await _decided(session, work, first, is_run)
    async with ParallelSession() as session:  # which knows nothing of the first item: it may have paid for an import
        more = await _measure(session, work, max(2, int(_ENOUGH_S / max(first.busy_s, 1e-9))))
        return await _decided(session, work, _Measured(first.n_items + more.n_items, first.busy_s + more.busy_s), is_run)


async def _measure(session: ParallelSession, work: _Work, n_items: int) -> _Measured:
    taken = work.items[:n_items]
    await session.run_parallel(work.fn, taken, **work.options)
    return _Measured(len(taken), session.statistics().busy_s)


async def _decided(session: ParallelSession, work: _Work, measured: _Measured, is_run: bool) -> Explanation:
    decision = await session.decide(work.fn, work.items, **work.options)
    leaves_serial_at = await _leaves_serial_at(session, work) if decision.reason is Reason.TOO_SMALL else None
    ran_s, ran = None, None
    if is_run:
        begun = perf_counter()
        await session.run_parallel(work.fn, work.items, progress=True, **work.options)  # shown where somebody looks
        ran_s, ran = perf_counter() - begun, session.decisions[-1]
    return Explanation(
        decision=decision,
        n_measured=measured.n_items,
        measured_s=measured.busy_s,
        leaves_serial_at=leaves_serial_at,
        ran_s=ran_s,
        ran=ran,
    )


async def _leaves_serial_at(session: ParallelSession, work: _Work) -> int | None:
    """Return from how many items of this cost on they would not be serial, within a tenth; None if there is no such count."""

    async def leaves(n_items: int) -> bool:
        decision = await session.decide(work.fn, work.items[:1] * n_items, **work.options)
        return decision.strategy is not Strategy.SERIAL

    low = high = len(work.items)
    while not await leaves(high):
        low, high = high, 2 * high
        if low >= MOST_ITEMS:
            return None
    while high - low > max(1, low // 10):
        middle = (low + high) // 2
        low, high = (low, middle) if await leaves(middle) else (middle, high)
    return high
