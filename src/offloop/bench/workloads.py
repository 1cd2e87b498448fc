"""The functions that a bench without a target measures: what parallel execution is good for, and what it isn't."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Work:
    """A function, and items to call it with.

    Attributes:
        name: In reports.
        description: What it is, in a few words; empty for a user's own.
        fn: A function of one item.
        items: The items.
        is_thread_safe: Whether it may run in several threads at once.
        seed: The ``seed=`` of its runs.
    """

    name: str
    fn: Callable[..., Any]
    items: Sequence[Any]
    description: str = ""
    is_thread_safe: bool = False
    seed: int | None = None


def count_up(turns: int) -> int:
    """Hold the GIL for so many turns of a loop."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


def compressed_bytes(text: bytes) -> int:
    """Release the GIL while zlib compresses."""
    return len(zlib.compress(text, 6))


def increment(number: int) -> int:
    """Cost about as little as a call can."""
    return number + 1


def resampled_mean(data: Any, seed: int) -> float:
    """Return the mean of as many values of an array as it has, drawn with replacement."""
    import numpy as np

    return float(data[np.random.default_rng(seed).integers(0, len(data), len(data))].mean())


def _loop() -> Work:
    return _built_in("loop", "a Python loop, which holds the GIL", count_up, [25_000] * 128)


def _release() -> Work:
    text = b"".join(b"line %d of a text that compresses; " % number for number in range(2_000))
    return _built_in("zlib", "compression in C, which releases the GIL", compressed_bytes, [text] * 64)


def _tiny() -> Work:
    return _built_in("tiny", "items that cost next to nothing", increment, range(65_536))


def _array() -> Work:
    import numpy as np

    data = np.random.default_rng(0).normal(size=100_000)
    return _built_in("array", "resamples of one numpy array of 0.8 MB", partial(resampled_mean, data), range(128))


def _tail() -> Work:
    turns = [200_000 if number % 16 == 15 else 10_000 for number in range(128)]
    return _built_in("tail", "one item in 16 takes 20 times as long", count_up, turns)


def _built_in(name: str, description: str, fn: Callable[..., Any], items: Sequence[Any]) -> Work:
    return Work(name=name, description=description, fn=fn, items=items, is_thread_safe=True)


BUILT_IN: dict[str, Callable[[], Work]] = {"loop": _loop, "zlib": _release, "tiny": _tiny, "array": _array, "tail": _tail}
