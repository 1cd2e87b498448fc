"""An executor: the interface of `concurrent.futures` to a session's workers.

    submit ──► queue ──take──► runner ──► session.run ──► worker
                 ▲             (one for each worker)
                 └── cancel

Rules:

- A call stays in the executor's own queue until a runner takes it; until then `cancel` takes it out, and it is never executed.
- There are as many runners as the executor has workers, so a call that runs has a worker, or is the next to get one where
  others use the session's workers too.
- A runner is a task of the session's portal. It ends when the queue is empty, so an executor that nobody uses holds nothing,
  and one that is dropped finishes what it was given.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextvars import Context, copy_context
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ... import call, star
from ...errors import SessionClosedError
from ...forking import in_forked_child
from ...options import RunOptions
from .errors import as_told
from .future import Call, ExecutorFuture
from .maps import flattened, results_of

if TYPE_CHECKING:
    from ... import ParallelSession

P = ParamSpec("P")
R = TypeVar("R")

_SHUT = "cannot schedule new futures after shutdown"
_NAMES = {"timeout_s": "item_timeout_s"}  # as maps have it
_EXITING = "cannot schedule new futures after interpreter shutdown"


class _Runner:
    """Who makes calls, one after another, in one context: that of the first."""

    def __init__(self, future: ExecutorFuture[Any], first: Call) -> None:
        self.future: ExecutorFuture[Any] | None = future  # of the call under way
        self.first: Call | None = first  # until it begins
        self.context = first.context
        self.is_stopped = False  # with the call under way
        self.cancel: Callable[[], None] | None = None  # once the portal has it


class SessionExecutor(Executor):
    """A `concurrent.futures.Executor` over the workers of a session; made by `ParallelSession.executor`.

    It may be used from any thread, with or without an event loop, and by as many at a time as like. `submit` and `map` mean what
    they mean for `concurrent.futures.ProcessPoolExecutor`, with these differences:

    - A worker's death fails the one call that was on it; others are not concerned. The error is a `WorkerCrashed`, and also a
      BrokenProcessPool.
    - What can't be pickled or unpickled, fn, an argument or a result, fails its call; with an `UnpicklableError` that is also a
      PicklingError, and a BrokenProcessPool.
    - What fn raised has its remote traceback in its notes. SystemExit, KeyboardInterrupt, StopIteration and their like are raised
      by ``result()`` as themselves; ``exception()``, and so whoever awaits the call on an event loop, has an `ItemError` for
      them, since they would end the loop.
    - Calls that run can be stopped: by `ExecutorFuture.interrupt`, and by ``shutdown(kill=True)``.
    - A future's callbacks are called in the thread of the session's portal, and must be short, as ever.

    Arguments are pickled when a call gets its worker. When the session is closed, calls that wait or run fail with
    `SessionClosedError`. At the end of the program calls that wait or run are finished first, as those of the standard executors are.

    Args:
        session: The session; open.
        workers: The most calls that run at a time.
        options: Of each call; see `CallOptions`.
    """

    def __init__(self, session: ParallelSession, workers: int, options: RunOptions) -> None:
        self._session, self._max_workers, self._options = session, workers, options
        self._of_chunks: dict[str, Any] = {_NAMES.get(name, name): value for name, value in options.items()}
        self._portal = session.portal
        self._refusal: str | None = None  # why nothing more is submitted
        self._queue: deque[ExecutorFuture[Any]] = deque()
        self._runners: set[_Runner] = set()
        self._lock = threading.Lock()
        self._is_over = threading.Condition(self._lock)  # told when a runner ends
        _executors.add(self)

    # --- entrances ---------------------------------------------------------------------------------------------------

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> ExecutorFuture[R]:
        """Have ``fn(*args, **kwargs)`` called by a worker; returns at once.

        Raises:
            RuntimeError: The executor was shut down, or the interpreter is on its way out.
        """
        if kwargs:
            return self._submit(partial(self._session.run, call(fn, *args, **kwargs), **self._options))
        return self._submit(partial(self._session.run, fn, *args, **self._options))

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Return an iterator of ``fn(*arguments)`` for the tuples of arguments that `zip` makes of the iterables, in order.

        Args:
            fn: The function.
            *iterables: Read at once, unless ``buffersize`` says how far ahead.
            timeout: Seconds from now after which the iterator raises TimeoutError; None waits as long as it takes.
            chunksize: How many calls travel together.
            buffersize: The most calls, or chunks of them, that are submitted and whose results were not taken yet. The iterables are
                then read as results are taken.

        Raises:
            ValueError: ``chunksize`` or ``buffersize`` is less than 1.
            TypeError: ``buffersize`` isn't an integer.
            RuntimeError: As for `submit`.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        until = None if timeout is None else monotonic() + timeout
        if chunksize == 1:
            calls = (partial(self._submit_one, fn, each) for each in zip(*iterables, strict=False))
            return results_of(calls, buffersize, until)
        called: Callable[[Any], R] = fn if len(iterables) == 1 else star(fn)
        items = iter(iterables[0]) if len(iterables) == 1 else zip(*iterables, strict=False)
        chunks = iter(lambda: tuple(islice(items, chunksize)), ())
        return flattened(results_of((partial(self._submit_chunk, called, chunk) for chunk in chunks), buffersize, until))

    def _submit_one(self, fn: Callable[..., R], arguments: tuple[Any, ...]) -> ExecutorFuture[R]:
        return self.submit(fn, *arguments)

    def _submit_chunk(self, fn: Callable[[Any], R], chunk: tuple[Any, ...]) -> ExecutorFuture[list[R]]:
        return self._submit(partial(self._session.run_parallel, fn, chunk, chunk_size=len(chunk), **self._of_chunks))

    def _submit(self, begin: Callable[[], Awaitable[R]]) -> ExecutorFuture[R]:
        future: ExecutorFuture[R] = ExecutorFuture(self._stop, Call(begin, copy_context()))
        with self._lock:
            if self._refusal is not None:
                raise RuntimeError(self._refusal)
            self._queue.append(future)
            runner = self._one_more()
        if runner is not None:
            self._start(runner)
        return future

    # --- runners -----------------------------------------------------------------------------------------------------

    def _one_more(self) -> _Runner | None:
        """Return another runner with a call to begin with, if there is room for one; called with the lock held."""
        while self._queue and len(self._runners) < self._max_workers:
            future = self._queue.popleft()
            first = future.take()
            if first is not None and future.set_running_or_notify_cancel():
                runner = _Runner(future, first)
                self._runners.add(runner)
                return runner
        return None

    def _start(self, runner: _Runner) -> None:
        try:
            submission = runner.context.run(self._portal.submit, self._work, runner)
        except Exception as error:  # the portal is closed, or there is no room for its thread
            self._give_up(runner, error)
            return
        except BaseException:  # a KeyboardInterrupt, say: who submits it will never have this future
            self._fail(runner, CancelledError())
            self._leave(runner)
            raise
        with self._lock:
            runner.cancel, is_stopped = submission.cancel, runner.is_stopped
        if is_stopped:
            submission.cancel()
        submission.future.add_done_callback(partial(self._ended, runner))

    async def _work(self, runner: _Runner) -> None:
        """Make calls until there are no more for this runner."""
        due, runner.first = runner.first, None
        while due is not None:
            future = runner.future
            assert future is not None
            try:
                value = await due.begin()
            except Exception as error:
                future.set_exception(as_told(error))
            except BaseException:  # it was stopped, or the portal is being closed
                future.set_exception(CancelledError())
                raise
            else:
                future.set_result(value)
                del value
            del future
            due = self._next(runner)

    def _next(self, runner: _Runner) -> Call | None:
        """Return what a runner is to do next; None if it is to end."""
        with self._lock:
            runner.future = None
            while self._queue and not runner.is_stopped:
                future = self._queue[0]
                waiting = future.call
                if waiting is not None and not _is_same(waiting.context, runner.context):
                    break
                self._queue.popleft()
                due = future.take()
                if due is not None and future.set_running_or_notify_cancel():
                    runner.future = future
                    return due
        self._leave(runner)
        return None

    def _leave(self, runner: _Runner) -> None:
        """Let a runner go, and another come if there is something to do for it."""
        with self._lock:
            self._runners.discard(runner)
            other = self._one_more()
            self._is_over.notify_all()
        if other is not None:
            self._start(other)

    def _ended(self, runner: _Runner, end: Future[None]) -> None:
        """Take in that a runner is gone: it has left by itself, was stopped, or never begun."""
        runner.cancel = None  # it refers to the runner
        error = end.exception()
        if isinstance(error, SessionClosedError):  # it never began: the portal is closed, and so it is for whoever would come next
            self._give_up(runner, error)
            return
        self._fail(runner, error or CancelledError())
        self._leave(runner)

    def _fail(self, runner: _Runner, error: BaseException) -> None:
        """Fail the call that a runner leaves undone, if there is one."""
        if runner.future is not None and not runner.future.done():
            runner.future.set_exception(error)

    def _give_up(self, runner: _Runner, error: BaseException) -> None:
        """Fail all that waits: there is nobody to make the calls."""
        with self._lock:
            self._runners.discard(runner)
            waiting, self._queue = self._queue, deque()
            self._is_over.notify_all()
        self._fail(runner, error)
        for future in waiting:
            if future.take() is not None and future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _stop(self, future: ExecutorFuture[Any]) -> bool:
        """Stop a call under way; False if it is not."""
        with self._lock:
            runner = next((runner for runner in self._runners if runner.future is future), None)
            if runner is None:
                return False
            runner.is_stopped, cancel = True, runner.cancel
        if cancel is not None:
            cancel()
        return True

    # --- the end -----------------------------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, kill: bool = False) -> None:
        """Take nothing more. The session stays as it is. Idempotent.

        Args:
            wait: Whether to return only when everything that was submitted is over; it blocks.
            cancel_futures: Whether to cancel what has not begun.
            kill: Whether to stop what runs, too, as `ExecutorFuture.interrupt` does, and cancel what has not begun.

        Raises:
            RuntimeError: It should wait, and this is the thread of the session's portal, in a future's callback say, which
                would wait for itself.
        """
        with self._lock:
            self._refusal = self._refusal or _SHUT
            waiting = list(self._queue) if cancel_futures or kill else []
            running = [runner.future for runner in self._runners if runner.future is not None] if kill else []
        for future in waiting:
            future.cancel()
        for future in running:
            future.interrupt()
        if not wait:
            return
        if self._portal.is_here:
            raise RuntimeError("an executor can't be waited for in a callback of its futures; write shutdown(wait=False)")
        self._wait()

    def _wait(self) -> None:
        with self._lock:
            self._is_over.wait_for(lambda: not (self._runners or self._queue))

    def finish(self) -> None:
        """Take nothing more and return when everything is over: the interpreter is on its way out."""
        with self._lock:
            self._refusal = _EXITING
        self._wait()

    def leave_behind(self) -> None:
        """In a forked child: forget what is under way, which is the parent's."""
        self._lock = threading.Lock()
        self._is_over = threading.Condition(self._lock)
        self._runners, self._queue = set(), deque()
        self._refusal = str(SessionClosedError("of another process: it was opened before a fork. Open one in the child"))


def _is_same(one: Context, other: Context) -> bool:
    """Whether two contexts have the same variables with the same values; these are not asked: their ``==`` may be anything."""
    return one is other or (len(one) == len(other) and all(other.get(name, one) is value for name, value in one.items()))


_executors: weakref.WeakSet[SessionExecutor] = weakref.WeakSet()


@in_forked_child
def _after_fork_in_child() -> None:
    for executor in list(_executors):
        executor.leave_behind()
