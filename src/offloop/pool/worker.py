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

import os
import select
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ..deciding.starting import TRIES, TRIES_IF_KILLED
from ..endings import crashed_stack, ending_of
from ..errors import OffloopError, WorkerError, WorkerInitError, WorkerStartError
from ..forking import in_forked_child
from ..sensing.oom import OomKills
from ..wire import status_page
from ..wire.descriptors import complete_standard_streams
from ..wire.failures import PackedFailure, unpack_failure
from ..wire.frames import FrameReader, Kind
from ..wire.pickling import loads
from ..wire.storage import Storage
from ..worker.recycling import Recycling
from . import semaphores
from .death import Death, dump_from
from .exiting import kill_at_exit
from .hearing import hear, wanted_levels
from .launching import close_left_open, shortage
from .pooled import StartAgain
from .wiring import Ends, wire

_started: weakref.WeakSet[Worker] = weakref.WeakSet()  # all that may be alive, for exit and for forked children
_registry_lock = threading.Lock()


class Worker:
    """A worker process and what ties it to this one; every method may be called from any thread."""

    def __init__(self, ends: Ends, kills: OomKills, n_kills: int | None) -> None:
        self.words = status_page.new_page(ends.memory)
        self._ends = ends
        self._kills = kills
        self._n_kills = n_kills  # before it was started
        self.pid = 0
        self._executor: Any = None  # loky's; None again once it has ended
        self._process: Any = None  # loky's; knows how it ended
        self._exit_code: int | None = None
        self._death: Death | None = None  # once it was asked for
        self._manager: Any = None  # loky's thread that watches and reaps it
        self._semaphores: set[str] = set()
        self._pidfd: int | None = None
        self._lock = threading.Lock()
        self._killed = False
        self._died_by_itself = False  # before it was killed

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
        recycling: Recycling,
        storage: Storage,
        kills: OomKills,
        breakable: Callable[[Callable[[], object]], None],
    ) -> Worker:
        """Start a process and return once it answers; blocks, so call it in a thread.

        Args:
            init: The pickled worker_init and its arguments.
            env: Environment variables that it gets besides this process's.
            nice: How much lower its scheduling priority is.
            idle_timeout_s: It ends itself after so long without work.
            recycling: When it is to be replaced.
            storage: Where large buffers go; its own will be of the same kind.
            kills: Tells whether it was killed to free memory.
            breakable: Gets the means to break this off from another thread.

        Raises:
            StartAgain: There was no room for another process or thread, or it died before it answered.
            WorkerStartError: It can't be started.
            WorkerInitError: worker_init raised.
        """
        n_kills = kills.count()
        try:
            complete_standard_streams()
            worker = cls(wire(storage), kills, n_kills)
            worker._spawn((init, idle_timeout_s, recycling, wanted_levels()), env, nice, storage)
        except Exception as error:
            short = shortage(error)
            if short is None:  # not a matter of room
                raise WorkerStartError(f"{type(error).__name__}: {error}") from error
            text = str(short) or type(short).__name__
            # Its traceback would hold what was begun, with its descriptors.
            raise StartAgain(lambda tries: WorkerStartError(f"{text}{_in_a_row(tries)}")) from short.with_traceback(None)
        try:
            breakable(worker.kill)
            worker._greet(init is not None)
        except BaseException as error:
            worker._bury()
            if isinstance(error, OffloopError | StartAgain):
                raise
            raise WorkerStartError(f"{type(error).__name__}: {error}") from error
        return worker

    def _spawn(self, serving: tuple[Any, ...], env: Mapping[str, str], nice: int, storage: Storage) -> None:
        from multiprocessing import resource_tracker

        from loky import ProcessPoolExecutor
        from loky.backend.context import ctx_loky

        from ..worker.serve import prepare, serve

        try:
            semaphores.sweep()
            self._executor = executor = ProcessPoolExecutor(
                max_workers=1,
                context=ctx_loky,
                timeout=None,
                env=dict(env),
                initializer=prepare,
                initargs=(self._ends.far, nice, (storage.kind, storage.folder)),
            )
            with _registry_lock:
                _started.add(self)
            resource_tracker.ensure_running()  # to start it would unblock the signal again
            # The new process is in this process's group until it has run `prepare`: a Ctrl-C must not reach it.
            masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                executor.submit(serve, *serving)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            self._watch(next(iter(executor._processes.values())), executor._executor_manager_thread)
        except BaseException as error:
            self._bury()
            close_left_open(error)
            raise
        finally:
            self._ends.spawned()
        kill_at_exit(kill_all)

    def _bury(self) -> None:
        """End a process that did not come up, and leave nothing of it; blocks."""
        self.kill()
        if self._manager is None and self._executor is not None:  # loky had no thread to do it
            for process in list(self._executor._processes.values()):
                process.kill()
                process.join()
        self.close()
        self.join()

    def _watch(self, process: Any, manager: Any) -> None:
        self._process, self._manager = process, manager
        self._semaphores = semaphores.names_of(self._executor, process)
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
                semaphores.unlink(self._semaphores)
                self._ends.answered()
            elif kind == Kind.LOG:
                hear(self.pid, frame.payload)
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

    def _died_early(self, has_init: bool) -> StartAgain:
        deadline = time.monotonic() + 2.0
        while self.exit_code() is None and time.monotonic() < deadline:
            time.sleep(0.002)  # loky's thread may be reaping it just now
        death = self.death()

        def told(tries: int) -> WorkerError:
            how = f"its process ended before it answered{_in_a_row(tries)}: {ending_of(death.exit_code).how}"
            if death.cause:
                how += f", {death.cause}"
            error = WorkerInitError("worker_init", how) if has_init else WorkerStartError(how)
            if death.dump:
                error.add_note(crashed_stack(death.dump))
            return error

        was_killed = death.exit_code == -signal.SIGKILL and not death.cause
        return StartAgain(told, TRIES_IF_KILLED if was_killed else TRIES)

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

    @property
    def has_served(self) -> bool | None:
        """Whether it has finished an item; False if it has died by itself before that, None while neither is so."""
        try:
            if self.words[status_page.DONE]:
                return True
        except ValueError:  # closed
            return None
        with self._lock:
            died = self._died_by_itself if self._killed else self._pidfd is not None and _is_readable(self._pidfd)
        return False if died else None

    def exit_code(self) -> int | None:
        """Return how the process ended, as `os.waitstatus_to_exitcode` gives it; None until it is reaped."""
        process = self._process
        if process is not None:
            self._exit_code = process.exitcode
        return self._exit_code

    def death(self) -> Death:
        """Return what is known of the process's end, once it is reaped and before `close`; about 60 µs."""
        exit_code = self.exit_code()
        if self._death is not None and self._death.exit_code == exit_code:
            return self._death
        with self._lock:
            is_ours = self._killed and not self._died_by_itself
            try:
                text = self._ends.memory[status_page.SIZE :]
            except ValueError:  # closed
                text = b""
        cause = self._kills.explain(self._n_kills) if exit_code == -signal.SIGKILL and not is_ours else ""
        self._death = Death(exit_code, cause, dump_from(text))
        return self._death

    def interrupt(self) -> None:
        """Send the signal by which worker/interrupt.py stops an item; nothing if the process is gone, or was killed."""
        with self._lock:
            if self._killed:
                return
            try:
                if self._pidfd is not None:
                    signal.pidfd_send_signal(self._pidfd, signal.SIGURG)
                elif self._process.is_alive():
                    os.kill(self.pid, signal.SIGURG)
            except ProcessLookupError:
                pass

    def kill(self) -> None:
        """End the process and its group, whatever they are doing; returns at once. Idempotent."""
        with self._lock:
            if self._killed:
                return
            self._killed = True
            self._died_by_itself = self._pidfd is not None and _is_readable(self._pidfd)
            # Told first, loky takes the death for what it is, and doesn't wait 50 ms for an explanation.
            if self._executor is not None:
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
        semaphores.unlink(self._semaphores)  # one that was broken off before it answered still has them
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


def _in_a_row(tries: int) -> str:
    return f" ({tries} times in a row)" if tries > 1 else ""


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


def kill_all() -> None:
    """Kill every worker that this process has started."""
    with _registry_lock:
        workers = list(_started)
    for worker in workers:
        worker.kill()


@in_forked_child
def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.Lock()
    for worker in list(_started):
        worker._forget()
    _started.clear()
