"""What workers execute while they are cancelled or killed; each says on a page, or in a file, that it is at it."""

import os
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat
from typing import Any

from ..workloads import busy
from .page import BEATS, LEFT, PID, page_at

LONG_S = 60  # nobody waits for its end
BYTES_OF_A_MUTEX = 64  # more than any platform's pthread_mutex_t; noughts are PTHREAD_MUTEX_INITIALIZER
SHIFT = 17  # what sets a result apart from its item


def whoami() -> int:
    """Return the worker's number."""
    return os.getpid()


def cooperative(path: str) -> None:
    """Ask again and again whether to stop."""
    import offloop

    words = _begun(path)
    try:
        while True:
            offloop.checkpoint()
            words[BEATS] += 1
    finally:
        words[LEFT] = 1


def loop(path: str) -> None:
    """Run in pure Python, and never ask."""
    words = _begun(path)
    try:
        while True:
            words[BEATS] += 1
    finally:
        words[LEFT] = 1


def sleep(path: str) -> None:
    """Wait in the operating system, without the GIL."""
    words = _begun(path)
    try:
        time.sleep(LONG_S)
    finally:
        words[LEFT] = 1


def hold_the_gil(path: str) -> None:
    """Stay in C code that gives the GIL to nobody, and that no signal wakes, as it would wake a sleep: a deadlock."""
    import ctypes

    lock = ctypes.create_string_buffer(BYTES_OF_A_MUTEX)
    c = ctypes.PyDLL(None)
    words = _begun(path)
    try:
        c.pthread_mutex_lock(lock)
        c.pthread_mutex_lock(lock)
    finally:
        words[LEFT] = 1


def _begun(path: str) -> memoryview:
    words = page_at(path)
    words[PID] = os.getpid()
    return words


def shifted(iterations: int, item: int) -> int:
    """Work a little on an item."""
    busy(iterations)
    return item + SHIFT


class Marked:
    """Work on items, noted on a page: who began each of them, and how often it was done; two words for each item."""

    def __init__(self, path: str, iterations: int) -> None:
        self.path = path
        self.iterations = iterations

    def __call__(self, item: int) -> int:
        words = page_at(self.path)
        words[2 * item] = os.getpid()
        result = shifted(self.iterations, item)
        words[2 * item + 1] += 1
        return result


def sign_and_loop(path: str, *held: Any) -> None:
    """Burn a core in pure Python, whatever it holds meanwhile."""
    sign(path)
    while held is not None:
        pass


def sign_and_burn_in_c(path: str) -> None:
    """Burn a core in C code that holds the GIL and looks at no signal."""
    sign(path)
    deque(repeat(None), maxlen=0)


def sign_and_end(path: str) -> None:
    """Be quick, but not so quick that another worker could do with it."""
    sign(path)
    time.sleep(0.3)


def sign(path: str) -> None:
    """Note in a file that many append to which process is at work."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{os.getpid()}\n".encode())
    finally:
        os.close(descriptor)


def whoami_after(seconds: float) -> int:
    """Keep the worker for a while, and return its number."""
    time.sleep(seconds)
    return os.getpid()


class Spread:
    """A function of one item that is a tuple of arguments."""

    def __init__(self, fn: Callable[..., object]) -> None:
        self.fn = fn

    def __call__(self, arguments: tuple[Any, ...]) -> object:
        return self.fn(*arguments)
