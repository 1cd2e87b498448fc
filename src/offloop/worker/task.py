"""What user code can ask about the task that it runs in, and say."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from ..errors import TaskCancelled
from ..wire.status_page import is_to_stop, write_fraction
from .interrupt import Guard, cleans_up


class Task(NamedTuple):
    """The chunk that a thread is executing.

    Attributes:
        words: The status page of its lane.
        epoch: Its number on that lane.
        state: What worker_init returned in this process.
        in_worker: Whether this process is a worker.
        guard: What may be interrupted in that thread.
        ask: Takes a question, and whether nothing is interrupted where it is asked, and returns the caller's answer; None
            where the caller answers none.
    """

    words: memoryview
    epoch: int
    state: Any
    in_worker: bool
    guard: Guard
    ask: Callable[[Any, bool], Any] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether its items are to stop."""
        return is_to_stop(self.words, self.epoch)


class _Current(threading.local):
    task: Task | None = None


current = _Current()

is_worker_process = False  # set once by `serve`


def in_worker() -> bool:
    """Whether this code runs in a worker process of offloop."""
    return is_worker_process


def is_cancelled() -> bool:
    """Whether this item is to stop: its run was cancelled, or its time is over; False outside of one.

    A memory read, no message. It tells within `shield` too. An item that was told so is not interrupted any more: it may
    stop in its own way, for which it has what is left of ``grace_s``.
    """
    task = current.task
    if task is None:
        return False
    task.guard.looks = True
    if not is_to_stop(task.words, task.epoch):
        return False
    task.guard.is_told = True
    return True


def checkpoint() -> None:
    """Raise if this item is to stop, since its run was cancelled or its time is over; do nothing outside of one.

    Costs a memory read, well under 1 µs: call it in every round of a long loop. Within `shield` it does nothing.

    Raises:
        TaskCancelled: It is to stop. A BaseException, so that ``except Exception`` lets it through.
    """
    task = current.task
    if task is not None:
        task.guard.looks = True
        if is_to_stop(task.words, task.epoch) and not task.guard.n_shields:
            raise TaskCancelled


def report_progress(fraction: float) -> None:
    """Say how much of this item is done, for whoever watches the run by ``progress=``; does nothing outside of one.

    A few memory writes, no message: under 1 µs, so call it as often as you like.

    Args:
        fraction: From 0 to 1.

    Raises:
        ValueError: It is no such number.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be from 0 to 1, not {fraction!r}")
    task = current.task
    if task is not None:
        write_fraction(task.words, fraction)


class Shield:
    """A context in which an item is not interrupted; see `shield`."""

    __slots__ = ("_guard",)

    def __enter__(self) -> None:
        """Hold interrupts back."""
        task = current.task
        self._guard = task.guard if task is not None else None
        if self._guard is not None:
            self._guard.shield()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let what was held back come now, unless an exception is on its way already or an interrupt is being handled."""
        if self._guard is not None:
            self._guard.n_shields -= 1
            if kind is None and not cleans_up(sys.exc_info()[1]):
                checkpoint()


def shield() -> Shield:
    """Return a context in which this item is neither interrupted nor stopped by `checkpoint`.

    For what must not be left half done: ``with offloop.shield(): ...``. At its end what was held back is raised, but not in
    an ``except`` or ``finally`` block that TaskCancelled has led to: the rest of that is executed. A worker is killed all the
    same ``grace_s`` after its item was to stop, so keep it short. May be nested; does nothing outside of an item.
    `is_cancelled` tells within it too.
    """
    return Shield()


def worker_state() -> Any:
    """Return what ``worker_init`` returned in this process; None without one, or outside of an item."""
    task = current.task
    return task.state if task is not None else None
