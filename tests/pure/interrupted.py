"""What the tests of interrupts share: an item that is interrupted where it says so itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from offloop.errors import TaskCancelled
from offloop.wire.status_page import CANCEL, SIZE, new_page
from offloop.worker.interrupt import SIGNAL, Guard, ThreadGuard, calls_user_code
from offloop.worker.task import Task, current

EPOCH = 5


class Interrupted:
    """An item that is interrupted where it says so itself, in the chunk of `EPOCH`, which is to stop.

    Attributes:
        guard: What may be interrupted.
        words: The status page.
        interrupt: Interrupts the caller.
    """

    def __init__(self, guard: Guard, interrupt: Callable[[], None]) -> None:
        self.guard, self.interrupt = guard, interrupt
        self.words = new_page(bytearray(SIZE))
        self.words[CANCEL] = EPOCH

    def runs(self, work: Callable[[], Any]) -> bool:
        """Execute an item; return whether it was interrupted."""
        current.task = Task(self.words, EPOCH, None, False, self.guard)
        self.guard.open(self.words, EPOCH)
        try:
            _as_item(work)
        except TaskCancelled:
            return True
        finally:
            self.guard.shut()
            current.task = None
        return False

    def is_held_back(self) -> bool:
        """Return whether an interrupt that comes here is held back; only within an item."""
        try:
            self.interrupt()
        except TaskCancelled:
            return False
        return True


@calls_user_code
def _as_item(work: Callable[[], Any]) -> None:
    work()


@contextmanager
def by_signal() -> Iterator[Interrupted]:
    """Interrupt this thread, the main one, as the parent does a worker."""
    assert SIGNAL is not None
    before = signal.getsignal(SIGNAL)
    guard = Guard()
    guard.install()
    try:
        yield Interrupted(guard, lambda: signal.raise_signal(SIGNAL))
    finally:
        signal.signal(SIGNAL, before)


@contextmanager
def by_thread() -> Iterator[Interrupted]:
    """Interrupt this thread from another one, as an event loop does."""
    guard = ThreadGuard()
    asked, done = threading.Lock(), threading.Lock()  # of C, so that what is looked at is the frame that waits for them
    asked.acquire()
    done.acquire()
    is_over = False

    def serve() -> None:
        while True:
            asked.acquire()
            if is_over:
                return
            guard.interrupt()
            done.release()

    def interrupt() -> None:
        asked.release()
        done.acquire()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Interrupted(guard, interrupt)
    finally:
        is_over = True
        asked.release()
        thread.join()


def named(name: object, work: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function of a module of this name that calls another one."""

    namespace: dict[str, Any] = {"work": work}
    exec("def call():\n    return work()", namespace)
    namespace["__name__"] = name
    found: Callable[[], Any] = namespace["call"]
    return found
