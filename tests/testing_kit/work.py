"""Functions of an app, which tests of the kit send to inline sessions."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import offloop

calls: list[Any] = []  # of this process
lock = threading.Lock()


def double(x: int) -> int:
    return 2 * x


def note(x: int) -> int:
    calls.append(x)
    return x


def note_random(x: int, rng: Any) -> float:
    calls.append(x)
    return float(rng.random())


def total(rows: list[int]) -> list[int]:
    calls.append(list(rows))
    return [2 * row for row in rows]


def append(items: list[int]) -> int:
    items.append(1)
    return len(items)


def fill(page: list[int], value: int, *, times: int = 1) -> list[int]:
    page[:] = [value] * times
    return page


def accumulate(x: int, seen: list[int] = []) -> int:  # noqa: B006
    seen.append(x)
    return sum(seen)


def count_in(counts: dict[str, int], word: str) -> int:
    counts[word] = counts.get(word, 0) + 1
    return counts[word]


class Model:
    """Counts what it has predicted."""

    def __init__(self) -> None:
        self.n_predicted = 0

    def predict(self, x: int) -> int:
        self.n_predicted += 1
        return x

    def look(self, x: int) -> int:
        return x + self.n_predicted


class Page:
    """Remembers what it has computed, and is a page of its own."""

    def __init__(self, text: str) -> None:
        self.text, self.pages = text, [self]

    @cached_property
    def loud(self) -> str:
        return self.text.upper()

    def shout(self) -> str:
        return self.loud


def give_lock(x: int) -> Any:
    return {"lock": lock} if x == 2 else x


def refuse(x: int) -> int:
    raise KeyError(x)


async def coroutine(x: int) -> int:
    return x


def loop_for_ever(path: str) -> None:
    Path(path).mkdir()  # a file would be open when the interrupt comes
    while True:
        time.sleep(0.001)


def nested(x: int) -> list[int]:
    return offloop.run_parallel_sync(double, range(x))


def ask(question: Any) -> Any:
    return offloop.ask(question)


def ask_lock(x: int) -> Any:
    return offloop.ask(lock)
