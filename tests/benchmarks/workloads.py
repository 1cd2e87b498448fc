"""The functions that contenders run, importable by name in any worker."""

from collections.abc import Callable, Sequence
from typing import Any

BYTES_PER_PAYLOAD = 50_000


def noop() -> None:
    """Return at once: what is left is the way there and back."""


def rouse(iterations: int) -> int:
    """Work a little before the clock starts; another name than ``busy``, so that nobody learns its cost."""
    return busy(iterations)


def add_one(x: int) -> int:
    """Cost about as little as a call can."""
    return x + 1


def busy(iterations: int) -> int:
    """Hold a core and the GIL for a fixed count of loop turns, so that contention shows in the time."""
    total = 0
    for turn in range(iterations):
        total += turn & 7
    return total


def busy_then_reverse(task: tuple[int, Any]) -> Any:
    """Work for ``task[0]`` loop turns, then give a payload of the same size back."""
    iterations, payload = task
    busy(iterations)
    return payload[::-1]


def apply(fn: Callable[[Any], Any], chunk: Sequence[Any]) -> list[Any]:
    """Call ``fn`` on each item: a chunk, for peers that only know single calls."""
    return [fn(item) for item in chunk]
