"""What user code can ask about the task that it runs in."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from ..errors import TaskCancelled
from ..wire.status_page import CANCEL


class Task(NamedTuple):
    """The chunk that a thread is executing.

    Attributes:
        words: The status page of its lane.
        epoch: Its number on that lane.
        state: What worker_init returned in this process.
        in_worker: Whether this process is a worker.
    """

    words: memoryview
    epoch: int
    state: Any
    in_worker: bool


class _Current(threading.local):
    task: Task | None = None


current = _Current()

is_worker_process = False  # set once by `serve`


def in_worker() -> bool:
    """Whether this code runs in a worker process of offloop."""
    return is_worker_process


def is_cancelled() -> bool:
    """Whether the run that this item belongs to was cancelled; False outside of one. A memory read, no message."""
    task = current.task
    return task is not None and task.words[CANCEL] >= task.epoch


def checkpoint() -> None:
    """Raise if the run that this item belongs to was cancelled; do nothing outside of one.

    Costs a memory read, well under 1 µs: call it in every round of a long loop.

    Raises:
        TaskCancelled: The run was cancelled. A BaseException, so that ``except Exception`` lets it through.
    """
    if is_cancelled():
        raise TaskCancelled


def worker_state() -> Any:
    """Return what ``worker_init`` returned in this process; None without one, or outside of an item."""
    task = current.task
    return task.state if task is not None else None
