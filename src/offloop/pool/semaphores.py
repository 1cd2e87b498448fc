"""The names in /dev/shm that loky makes for semaphores of a worker, of which none is left behind."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from typing import Any

from ..forking import in_forked_child

_lock = threading.RLock()  # held while names are taken out, where memory is allocated, so that a session may be collected
_is_left_to_the_end = False


def names_of(executor: Any, process: Any) -> set[str]:
    """Return the names in /dev/shm that loky made for one executor of one process."""
    locks = [lock for queue in (executor._call_queue, executor._result_queue) for lock in vars(queue).values()]
    locks += [executor._processes_management_lock, process._worker_exit_lock]
    return {lock._semlock.name for lock in locks if hasattr(lock, "_semlock")}


def unlink(semaphores: set[str]) -> None:
    """Take names of semaphores out of /dev/shm: both sides hold them open, nothing opens them again.

    loky's own finalizers do it, which also take them off its resource tracker's list; run early they run only once.
    """
    from multiprocessing import util

    with _lock:
        if _is_left_to_the_end:
            return
        for finalizer in list(vars(util)["_finalizer_registry"].values()):
            args = finalizer._args  # None once it has run, which it may just now in another thread
            if args is not None and len(args) == 1 and args[0] in semaphores:
                finalizer()


def leave_to_the_end() -> None:
    """Have `unlink` do nothing any more, since the interpreter's end runs all finalizers; returns when nobody is at it.

    A thread that was stopped for good in the middle would leave a name on the tracker's list, which would warn of it.
    """
    global _is_left_to_the_end
    with _lock:
        _is_left_to_the_end = True


@in_forked_child
def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


_SETTLED_S = 60.0  # younger names may be in use by a process that this one can't see, in a container beside it


@functools.cache  # once in a process
def sweep() -> None:
    """Unlink semaphore names that processes killed while they started a worker have left behind."""
    if sys.platform != "linux":
        return
    for entry in os.scandir("/dev/shm"):
        _, _, rest = entry.name.partition("sem.loky-")
        pid = rest.partition("-")[0]
        if pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            try:
                facts = entry.stat()
                if facts.st_uid == os.getuid() and time.time() - facts.st_mtime > _SETTLED_S:
                    os.unlink(entry.path)
            except OSError:  # somebody else was quicker
                continue
