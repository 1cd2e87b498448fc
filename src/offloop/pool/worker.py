"""One worker process: started, watched and reaped by loky, held by a lane and a lifeline.

    this process                                        worker process
    ┌──────────────┐  lane      (frames, both ways)     ┌─────────────┐
    │ WorkerLane   │◄──────────────────────────────────►│ serve()     │
    │              │  status page (shared memory)       │             │
    │              │◄──────────────────────────────────►│             │
    │              │  lifeline  (nothing, until the end)│             │
    │              │───────────────────────────────────►│ O_ASYNC     │
    │ executor ····│· loky: spawn, sentinel, reap ······│             │
    └──────────────┘                                    └─────────────┘

Each worker has an executor of its own, so that a crash or a kill breaks that one alone.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import OffloopError, WorkerInitError, WorkerStartError
from ..wire import status_page
from ..wire.failures import PackedFailure, unpack_failure
from ..wire.frames import FrameReader, Kind
from ..wire.pickling import loads
from ..wire.storage import Storage
from .wiring import Ends, wire

_started: weakref.WeakSet[Worker] = weakref.WeakSet()  # all that may be alive, for exit and for forked children
_registry_lock = threading.Lock()


class Worker:
    """A worker process and what ties it to this one; every method may be called from any thread."""

    def __init__(self, executor: Any, ends: Ends) -> None:
        self.words = status_page.new_page(ends.memory)
        self._ends = ends
        self.pid = 0
        self._executor: Any = executor  # None once it has ended
        self._process: Any = None  # loky's; knows how it ended
        self._exit_code: int | None = None
        self._manager: Any = None  # loky's thread that watches and reaps it
        self._semaphores: set[str] = set()
        self._pidfd: int | None = None
        self._lock = threading.Lock()
        self._killed = False

    @property
    def lane(self) -> socket.socket:
        """The near end of the lane."""
        return self._ends.lane

    @classmethod
    def start(
        cls,
        init: bytes | None,
        *,
        env: Mapping[str, str],
        nice: int,
        idle_timeout_s: float,
        storage: Storage,
        breakable: Callable[[Callable[[], object]], None],
    ) -> Worker:
        """Start a process and return once it answers; blocks, so call it in a thread.

        Args:
            init: The pickled worker_init and its arguments.
            env: Environment variables that it gets besides this process's.
            nice: How much lower its scheduling priority is.
            idle_timeout_s: It ends itself after so long without work.
            storage: Where large buffers go; its own will be of the same kind.
            breakable: Gets the means to break this off from another thread.

        Raises:
            WorkerStartError: The process could not be started, or died before it answered.
            WorkerInitError: worker_init raised.
        """
        try:
            worker = cls._spawn(init, env, nice, idle_timeout_s, storage)
        except (OSError, RuntimeError, NotImplementedError) as error:
            raise WorkerStartError(str(error)) from error
        try:
            breakable(worker.kill)
            worker._greet(init is not None)
        except BaseException as error:
            worker.kill()
            worker.close()
            worker.join()
            if isinstance(error, OffloopError):
                raise
            raise WorkerStartError(f"{type(error).__name__}: {error}") from error
        return worker

    @classmethod
    def _spawn(
        cls, init: bytes | None, env: Mapping[str, str], nice: int, idle_timeout_s: float, storage: Storage
    ) -> Worker:
        from loky import ProcessPoolExecutor
        from loky.backend.context import ctx_loky

        from ..worker.serve import prepare, serve

        _sweep_names_of_the_dead()
        ends = wire(storage)
        try:
            executor = ProcessPoolExecutor(
                max_workers=1,
                context=ctx_loky,
                timeout=None,
                env=dict(env),
                initializer=prepare,
                initargs=(ends.far, nice, (storage.kind, storage.folder)),
            )
            worker = cls(executor, ends)
            with _registry_lock:
                _started.add(worker)
            # The new process is in this process's group until it has run `prepare`: a Ctrl-C must not reach it.
            masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                executor.submit(serve, init, idle_timeout_s)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            worker._watch(next(iter(executor._processes.values())), executor._executor_manager_thread)
        except BaseException:
            ends.close()
            raise
        finally:
            ends.spawned()
        _kill_all_at_exit()
        return worker

    def _watch(self, process: Any, manager: Any) -> None:
        self._process, self._manager = process, manager
        self._semaphores = _semaphore_names(self._executor, process)
        self.pid = process.pid
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.pid)

    def _greet(self, has_init: bool) -> None:
        """Wait until the process answers; then nothing of it needs a name any more."""
        if not self._ends.complete(lambda: not self.is_alive):
            raise self._died_early(has_init)
        reader = FrameReader()
        while True:
            while (frame := reader.next_frame()) is None:
                count = self._receive_first(reader.writable())
                if count == 0:
                    raise self._died_early(has_init)
                reader.received(count)
            kind = frame.header.kind
            if kind == Kind.HELLO:
                _unlink(self._semaphores)
                self._ends.answered()
            elif kind == Kind.READY:
                break
            elif kind == Kind.INIT_FAILED:
                raise unpack_init_failure(frame.payload)
        self.lane.setblocking(False)

    def _receive_first(self, view: memoryview) -> int:
        """Receive in blocking mode, but notice a death that a grandchild's copy of the lane would hide."""
        poll = select.poll()
        poll.register(self.lane, select.POLLIN)
        if self._pidfd is not None:
            poll.register(self._pidfd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if self.lane.fileno() not in ready:
            return 0
        try:
            return self.lane.recv_into(view)
        except OSError:  # reset, or closed by `kill`
            return 0

    def _died_early(self, has_init: bool) -> OffloopError:
        deadline = time.monotonic() + 2.0
        while self.exit_code() is None and time.monotonic() < deadline:
            time.sleep(0.002)  # loky's thread may be reaping it just now
        how = f"its process ended with exit code {self.exit_code()} before it answered"
        return WorkerInitError("worker_init", how) if has_init else WorkerStartError(how)

    def fileno_of_death(self) -> int | None:
        """Return a descriptor that becomes readable when the process ends, where the platform has one."""
        return self._pidfd

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        with self._lock:
            if self._killed:
                return False
            if self._pidfd is not None:
                return not _is_readable(self._pidfd)
        return bool(self._process.is_alive())

    def exit_code(self) -> int | None:
        """Return how the process ended, as `os.waitstatus_to_exitcode` gives it; None until it is reaped."""
        process = self._process
        if process is not None:
            self._exit_code = process.exitcode
        return self._exit_code

    def kill(self) -> None:
        """End the process and its group, whatever they are doing; returns at once. Idempotent."""
        with self._lock:
            if self._killed:
                return
            self._killed = True
            # Told first, loky takes the death for what it is, and doesn't wait 50 ms for an explanation.
            self._executor.shutdown(wait=False, kill_workers=True)
            self._ends.lifeline.close()  # here the kernel kills the group; see worker/lifeline.py
            if self._pidfd is not None:
                _kill_process(self._pidfd)
            _kill_group(self.pid)

    def close(self) -> None:
        """Close what is left of this process's descriptors, after `kill`. Idempotent."""
        with self._lock:
            self._ends.close()
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None
            self.words.release()
            self._ends.memory.close()

    def join(self) -> None:
        """Wait until the process is reaped and nothing is left of loky's side of it; blocks."""
        with self._lock:
            manager, process = self._manager, self._process
        if manager is None:
            return
        manager.join()
        process.join(timeout=1.0)  # it is dead, but multiprocessing lists it, with its pipe, until it is asked
        _unlink(self._semaphores)  # one that was broken off before it answered still has them
        self.exit_code()
        # A traceback or a task of a closed loop may hold on to this: loky's pipes must not stay open for that.
        self._executor = self._manager = self._process = None

    def _forget(self) -> None:
        """In a forked child: close this process's copies, so that the parent's lanes and lifelines are its own."""
        self._killed = True
        self._ends.forget()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def unpack_init_failure(payload: bytes | memoryview) -> Exception:
    """Return the error that a failing worker_init sent."""
    error = unpack_failure(PackedFailure(*loads(payload)), 0, "worker_init")
    error.__notes__ = error.__notes__[1:]
    return error


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _kill_process(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _kill_group(pid: int) -> None:
    """Kill what is left of a worker's group: children that it forked."""
    if pid:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _semaphore_names(executor: Any, process: Any) -> set[str]:
    """Return the names in /dev/shm that loky made for one executor of one process."""
    locks = [lock for queue in (executor._call_queue, executor._result_queue) for lock in vars(queue).values()]
    locks += [executor._processes_management_lock, process._worker_exit_lock]
    return {lock._semlock.name for lock in locks if hasattr(lock, "_semlock")}


def _unlink(semaphores: set[str]) -> None:
    """Take names of semaphores out of /dev/shm: both sides hold them open, nothing opens them again.

    loky's own finalizers do it, which also take them off its resource tracker's list; run early they run only once.
    """
    from multiprocessing import util

    for finalizer in list(vars(util)["_finalizer_registry"].values()):
        args = finalizer._args  # None once it has run, which it may just now in another thread
        if args is not None and len(args) == 1 and args[0] in semaphores:
            finalizer()


def _kill_all_at_exit() -> None:
    """Register the end of all workers, after loky's own hook so that it runs before it.

    Without it loky's hook would wait for `serve`, which does not end by itself. loky registers its hook anew for every
    executor, so this is done after every start.
    """
    try:
        threading._register_atexit(kill_all)  # type: ignore[attr-defined]
    except RuntimeError:  # the interpreter is on its way out already
        kill_all()


def kill_all() -> None:
    """Kill every worker that this process has started."""
    with _registry_lock:
        workers = list(_started)
    for worker in workers:
        worker.kill()


def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()
    for worker in list(_started):
        worker._forget()
    _started.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


_SETTLED_S = 60.0  # younger names may be in use by a process that this one can't see, in a container beside it


@functools.cache  # once in a process
def _sweep_names_of_the_dead() -> None:
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
