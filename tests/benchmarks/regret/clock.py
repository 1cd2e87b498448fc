"""The time of an awaited call, however short it is."""

from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from typing import Any

SAMPLE_S = 0.02  # a sample goes on for so long at least
MOST_CALLS = 400

Call = Callable[[], Awaitable[list[Any]]]


async def sample_s(call: Call, *, least_s: float = SAMPLE_S) -> float:
    """Return the median over as many calls as a sample takes."""
    calls_s: list[float] = []
    began_s = perf_counter()
    while not calls_s or (perf_counter() - began_s < least_s and len(calls_s) < MOST_CALLS):
        calls_s.append(await once_s(call))
    return median(calls_s)


async def once_s(call: Call) -> float:
    """Return the time of one call."""
    began_s = perf_counter()
    await call()
    return perf_counter() - began_s
