"""Watching the GIL: how late another thread gets it while an item executes."""

from __future__ import annotations

import _thread
import math
import time

_TICK_S = 0.0002
_USUAL_S = 0.00015  # how late a sleep ends on an idle machine: 0.06 to 0.1 ms
_TELLING_S = 0.001
_LONG_S = 0.020  # so long a wait is no machine's
_ENOUGH = 5  # a held GIL lets two or three ticks of 10 ms through, and all of them late


class GilWatch:
    """A thread that sleeps for 0.2 ms again and again, and adds up by how much it wakes too late.

    Beside a Python loop, `sorted` or many tiny numpy calls it gets the GIL after CPython's switch interval of 5 ms or
    later, and gets 4 to 5 % of its ticks; beside zlib, a hash of 1 MB or a sum of 8 MB it gets 83 to 95 % (measured).

    It is started without a handshake, 15 µs instead of 60, since most of what it watches is short; but not in the thread of an
    item: up to Python 3.11 a thread has the identity of its starter until it runs, and would get an interrupt in its place.
    Where there is no room for a thread, it tells nothing.

    Args:
        in_item: Whether the thread that starts it is executing an item.
    """

    __slots__ = ("_begun", "_due", "_has_started", "_is_over", "_late_s", "_n_prompt", "stall_s")

    def __init__(self, *, in_item: bool = False) -> None:
        self.stall_s = 0.0  # the longest that another thread had to wait
        self._late_s = 0.0
        self._n_prompt = 0  # ticks that came in time
        self._is_over = False
        self._begun = self._due = time.monotonic()
        self._has_started = _thread.allocate_lock()
        self._has_started.acquire()
        try:
            _thread.start_new_thread(self._watch, ())
        except RuntimeError:  # no memory for its stack, or too many threads: the items don't need it
            self._begun = math.inf
            return
        if in_item:
            self._has_started.acquire()

    def _watch(self) -> None:
        self._has_started.release()
        due = self._begun  # to begin with, it is due to start
        while True:
            late_s = time.monotonic() - due - _USUAL_S
            if late_s > 0:
                self._late_s += late_s
                self.stall_s = max(self.stall_s, late_s)
            else:
                self._n_prompt += 1
            if self._is_over:
                return
            self._due = due = time.monotonic() + _TICK_S
            time.sleep(_TICK_S)

    def stop(self) -> float | None:
        """End it, and return the share of the time that the GIL was held; None if that was too short to tell."""
        self._is_over = True
        return self.held

    @property
    def held(self) -> float | None:
        """The share of the time so far that the GIL was held, 0 to 1; None if that is too short to tell."""
        now = time.monotonic()
        elapsed_s = now - self._begun
        if elapsed_s < _TELLING_S:
            return None
        waiting_s = max(0.0, now - self._due - _USUAL_S)  # it may be waiting just now
        late_s = self._late_s
        if self._n_prompt >= _ENOUGH and self.stall_s < _LONG_S:
            late_s -= self.stall_s  # where the GIL is free, one such wait is the machine's
        return min(1.0, (late_s + waiting_s) / elapsed_s)
