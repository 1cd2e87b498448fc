"""The threads in which a pool starts and ends lanes, since both block."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Generic

from .pooled import L, Start


class Starts(Generic[L]):
    """Threads of a pool's own, and how to break off what they are at; every method may be called from any thread.

    Args:
        start: Makes a lane; see `Pool`.
        name: For thread names.
    """

    def __init__(self, start: Start[L], name: str) -> None:
        self._start, self._name = start, name
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._left_over: list[Callable[[], object]] = []
        self._nascent: set[Callable[[], object]] = set()  # how to break off the starts under way

    def in_thread(self, work: Callable[..., object], *args: Any) -> None:
        """Have something done in a thread.

        Raises:
            RuntimeError: There is no room for another thread.
        """

        if sys.is_finalizing():  # what is collected then: a new thread would never get the GIL, and `start` wait for it
            raise RuntimeError("the interpreter is on its way out")

        def call() -> None:
            try:
                work(*args)
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=call, name=f"offloop-{self._name}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            self._threads.discard(thread)
            raise

    @property
    def threads(self) -> list[threading.Thread]:
        """Those that run."""
        return list(self._threads)

    def in_thread_or_at_end(self, work: Callable[..., object], *args: Any) -> None:
        """Have something done in a thread; where there is no room for one, `join` does it."""
        try:
            self.in_thread(work, *args)
        except RuntimeError:
            self._left_over.append(partial(work, *args))

    def wait_until(self, moment: Callable[[], float]) -> bool:
        """Wait until that moment, by the monotonic clock, or until `break_off`; say whether it had to be waited for."""
        has_waited = False
        while (pause_s := moment() - time.monotonic()) > 0 and not self._is_over.wait(pause_s):
            has_waited = True
        return has_waited

    def attempt(self) -> L:
        """Start a lane, so that `break_off` ends it; blocks."""
        breaks: list[Callable[[], object]] = []

        def breakable(break_off: Callable[[], object]) -> None:
            with self._lock:
                breaks.append(break_off)
                self._nascent.add(break_off)
                is_late = self._is_over.is_set()
            if is_late:
                break_off()

        try:
            return self._start(breakable)
        finally:
            with self._lock:
                self._nascent.difference_update(breaks)

    def break_off(self) -> None:
        """End the starts under way and those that are still to come."""
        with self._lock:
            self._is_over.set()
            nascent = list(self._nascent)
        for break_off in nascent:
            break_off()

    def join(self) -> None:
        """Wait for all threads, and do what there was none for."""
        for thread in self.threads:
            thread.join()
        while self._left_over:
            self._left_over.pop()()

    def leave_behind(self) -> None:
        """In a forked child: forget the threads, which are the parent's."""
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_over.set()
        self._threads.clear()
        self._left_over.clear()
        self._nascent.clear()
