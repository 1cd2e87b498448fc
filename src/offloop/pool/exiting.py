"""The end of the process: what was promised is finished first, then all workers are killed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from ..forking import in_forked_child
from . import semaphores


class Promised(Protocol):
    """What is to be finished before workers are killed."""

    def finish(self) -> None:
        """Take nothing more, and return when everything is over."""
        ...


class _Exit:
    def __init__(self) -> None:
        self.promised: weakref.WeakSet[Promised] = weakref.WeakSet()
        self.is_finishing = False
        self.is_registered = False
        self.kill_all: Callable[[], None] | None = None

    def register(self) -> None:
        """Have it run when the interpreter ends, before what was registered until now.

        Raises:
            RuntimeError: The interpreter is on its way out already.
        """
        threading._register_atexit(self.run)  # type: ignore[attr-defined]
        self.is_registered = True

    def run(self) -> None:
        """Finish, then kill; whatever interrupts the first has the second done at once."""
        promised, self.promised = list(self.promised), weakref.WeakSet()
        self.is_finishing = True
        try:
            if promised:
                _let_workers_start()
            for work in promised:
                work.finish()
        finally:
            self.is_finishing = False
            semaphores.leave_to_the_end()
            if self.kill_all is not None:
                self.kill_all()


_exit = _Exit()


def finish_at_exit(work: Promised) -> None:
    """Have something finished before the workers are killed; it isn't kept alive for that."""
    _exit.promised.add(work)
    if not _exit.is_registered:
        with suppress(RuntimeError):
            _exit.register()


def kill_at_exit(kill_all: Callable[[], None]) -> None:
    """Have all workers killed at exit: registered after loky's own hook, so that it runs before it.

    Without it loky's hook would wait for `serve`, which does not end by itself. loky registers its hook anew for every
    executor, so this is called after every start.
    """
    _exit.kill_all = kill_all
    try:
        _exit.register()
    except RuntimeError:
        if not _exit.is_finishing:
            kill_all()


def _let_workers_start() -> None:
    """Have loky start processes although the interpreter is on its way out: it would register its hook, which is refused now."""
    from loky import process_executor

    if process_executor.process_pool_executor_at_exit is None:
        process_executor.process_pool_executor_at_exit = True


@in_forked_child
def _after_fork_in_child() -> None:
    _exit.promised = weakref.WeakSet()
