"""Checks of worker processes by a real session: how they start, how calls get there and back, how arrays travel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import anyio

from ... import ParallelSession, add_sink
from ...errors import OffloopError, SettingError
from ...events import Event, WorkerStarted
from ...model import readable
from ..amounts import sized
from .findings import Finding, Verdict
from .subject import Subject

LIMIT_S = 2.5  # for all of it; 0.6 s on 2 cores that have nothing else to do
GRACE_S = 1.5  # for a start to end that was under way then
_CALLS_S = 0.3  # for calls of one kind, of which one is made in any case
_N_TRIPS = 100
_N_COPIES = 3
_COPIED_BYTES = 32_000_000

# Beyond these something is wrong rather than slow: guesses, about ten times what 2 noisy cores of a virtual machine need.
_SLOW_START_S = 1.5
_SLOW_TRIP_S = 0.002
_SLOW_COPY = 200e6  # bytes in a second


@dataclass(slots=True)
class Times:
    """What was measured: seconds until each worker answered, of each call there and back, of each array sent."""

    starts_s: list[float] = field(default_factory=list)
    trips_s: list[float] = field(default_factory=list)
    copies_s: list[float] = field(default_factory=list)


def workers(subject: Subject) -> Iterator[Finding]:
    """Start two workers and have them do next to nothing."""
    if not subject.has_workers:
        yield Finding(check="workers", verdict=Verdict.OK, cause="not started: nothing leaves this process, see parallelism")
        return
    times = Times()
    try:
        anyio.run(_measure, times, min(2, subject.host.cores))
    except SettingError as error:
        yield Finding(check="workers", verdict=Verdict.WARNING, cause=f"not started: {error.setting} can't work, see settings")
    except OffloopError as error:
        yield _failure(error)
    else:
        yield from findings_of(times, is_busy=_is_busy(subject.host.cores))


def _failure(error: OffloopError) -> Finding:
    """Return what has kept workers from working, as its text says."""
    what, *rest = str(error).splitlines()
    parts = {label: text.strip() for label, _, text in (line.strip().partition(":") for line in rest)}
    cause = f"{what}: {parts['cause']}" if "cause" in parts else what
    return Finding(check="workers", verdict=Verdict.ERROR, cause=cause, fix=parts.get("fix"))


async def _measure(times: Times, n_workers: int) -> None:
    """Take times, as far as the limit allows."""
    import numpy

    array = numpy.ones(_COPIED_BYTES // 8)

    def take_in(event: Event) -> None:
        if isinstance(event, WorkerStarted):
            started[event.pid] = event.start_s

    started: dict[int, float] = {}
    remove = add_sink(take_in)
    try:
        with anyio.move_on_after(LIMIT_S):
            async with ParallelSession(workers=n_workers, strategy="processes") as session:
                await session.warm()
                times.starts_s += [started[pid] for pid in session.statistics().workers if pid in started]
                await _time(times.trips_s, _N_TRIPS, session, os.getpid)  # by functions that a worker has already
                await _time(times.copies_s, _N_COPIES, session, len, array)
    finally:
        remove()


async def _time(times_s: list[float], n_calls: int, session: ParallelSession, fn: Callable[..., Any], *args: Any) -> None:
    """Take the times of calls, but of a first one, for which the worker may import something."""
    await session.run(fn, *args)
    while len(times_s) < n_calls and sum(times_s) < _CALLS_S:
        begun = perf_counter()
        await session.run(fn, *args)
        times_s.append(perf_counter() - begun)


def _is_busy(cores: int) -> bool:
    """Whether so many others want a core that nothing here is as fast as it could be."""
    try:
        return os.getloadavg()[0] > cores
    except (AttributeError, OSError):  # not told here
        return False


def findings_of(times: Times, *, is_busy: bool = False) -> Iterator[Finding]:
    """Yield what times say; on a machine that is busy a slow start is no error."""
    if not times.starts_s:
        verdict, cause = Verdict.ERROR, f"no worker answers within {LIMIT_S:g} s"
        if is_busy:
            verdict, cause = Verdict.WARNING, f"{cause}, while others compute here"
        fix = "look with top for what else computes here; else try python -X importtime -c 'import loky'"
        yield Finding(check="worker start", verdict=verdict, cause=cause, fix=fix)
        return
    start_s = max(times.starts_s)
    yield _finding(
        "worker start",
        f"{readable(start_s)} until a worker answers",
        "start them early, by await session.warm()" if start_s > _SLOW_START_S else None,
        start_s=start_s,
    )
    if times.trips_s:
        trip_s = median(times.trips_s)
        yield _finding(
            "round trip",
            f"{readable(trip_s)} for an empty call to a worker and back",
            "look with top for what else computes here" if trip_s > _SLOW_TRIP_S else None,
            trip_s=trip_s,
        )
    if times.copies_s:
        bytes_per_s = _COPIED_BYTES / min(times.copies_s)
        yield _finding(
            "copy rate",
            f"{sized(bytes_per_s)} a second, to send an array of {sized(_COPIED_BYTES)}",
            "send large arrays once, by session.share(array)" if bytes_per_s < _SLOW_COPY else None,
            bytes_per_s=bytes_per_s,
        )


def _finding(check: str, cause: str, fix: str | None, **figures: float) -> Finding:
    """Return what was measured, which is to look at if there is something to do about it."""
    verdict = Verdict.OK if fix is None else Verdict.WARNING
    return Finding(check=check, verdict=verdict, cause=cause, fix=fix, figures=figures)
