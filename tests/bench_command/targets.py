"""Functions that a bench is pointed at."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

NUMBERS = list(range(16))
NOTHING: list[int] = []

_calls = itertools.count()


def numbers() -> Iterator[int]:
    yield from NUMBERS


def square(x: int) -> int:
    return x * x


def where_it_runs(x: int) -> bool:
    """Return what serial and processes do not agree about."""
    return threading.current_thread().name.startswith("offloop-local")


def never_the_same(x: int) -> int:
    return next(_calls)


def fails(x: int) -> int:
    raise ValueError("as it is meant to")


def fails_elsewhere(x: int) -> int:
    """Fail in worker processes alone."""
    if threading.current_thread() is threading.main_thread():
        raise ValueError("a secret of the user's")
    return x


def draw(x: int, *, rng: Any) -> float:
    return float(rng.random())


async def waits(x: int) -> int:
    return x


def hangs(x: int) -> int:
    while True:
        pass


def hangs_elsewhere(x: int) -> int:
    """Hang in worker processes alone."""
    return hangs(x) if threading.current_thread() is threading.main_thread() else x
