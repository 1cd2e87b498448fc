"""What the workers of a service execute; each says on a page that it has begun."""

import time

from ..faults.page import page_at
from ..workloads import busy

WORDS = 2  # of the page, for each request or call
ENTERED, EXECUTED = range(WORDS)


def name_of(number: int) -> str:
    """Return what a request or call is known by: of one length, lest it looks like more or less work."""
    return f"{number:06}"


def counted_busy(path: str, name: str, iterations: int) -> str:
    """Work for so many loop turns, and count the execution; return the name and the seconds that it took."""
    began_s = time.perf_counter()
    page_at(path)[WORDS * int(name) + EXECUTED] += 1
    busy(iterations)
    return f"{name} {time.perf_counter() - began_s:.6f}"


def counted_wait(path: str, name: str, seconds: float) -> str:
    """Keep the worker for exactly so long, whatever else the machine does, and count the execution."""
    page_at(path)[WORDS * int(name) + EXECUTED] += 1
    time.sleep(seconds)
    return name


def endless(path: str, name: str) -> None:
    """Burn a core in pure Python until stopped, and count the execution."""
    page_at(path)[WORDS * int(name) + EXECUTED] += 1
    while True:
        pass
