"""The batches of one joblib call, on their way to the workers and back.

    joblib's thread        the portal                   a thread of the call's
    submit ──► waiting ──► session.run(call, batch) ──► callback ──► joblib takes the results in, and submits the next
"""

from __future__ import annotations

import operator
import pickle
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

import offloop
from offloop import TaskCancelled

from .packing import packed

make_calls = operator.call  # of a batch; not a function of ours, within which nothing is interrupted

Callback = Callable[["Outcome"], object]


class Outcome(NamedTuple):
    """What became of a batch: what its calls returned, or what one of them raised."""

    values: list[Any] | None = None
    error: BaseException | None = None

    def result(self) -> list[Any] | None:
        """Return the values, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.values


class Dispatcher:
    """Sends the batches of one joblib call to workers, so many at a time; any thread may use it.

    Callbacks are called in a thread of its own, since they read the caller's iterable, which may block. None is left out,
    for joblib would wait for it for ever, unless joblib itself aborts.

    Args:
        session: Whose workers.
        n_at_once: How many batches may be sent at a time.
        options: Options of `ParallelSession.run`.
        is_stopped: Whether it begins with being stopped.
    """

    def __init__(
        self, session: offloop.ParallelSession, n_at_once: int, options: dict[str, Any], *, is_stopped: bool
    ) -> None:
        self._session, self._n_at_once, self._options = session, n_at_once, options
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Any, Callback]] = deque()
        self._under_way: dict[Future[None], Any] = {}  # submissions; none is in a callback of its future, which would keep it
        self._n_sent = 0  # batches at workers
        self._n_open = 0  # batches whose callback hasn't returned
        self._has_failed = self._is_aborted = False
        self._are_small = True  # batches so far, so that it is worth trying
        self._is_stopped = is_stopped
        self._ended: SimpleQueue[tuple[Callback, Outcome] | None] = SimpleQueue()
        run = copy_context().run  # what callbacks send is part of whatever the caller is part of
        self._thread = threading.Thread(target=run, args=(self._deliver,), name="offloop-joblib", daemon=True)
        self._thread.start()

    def send(self, batch: Any, callback: Callback) -> None:
        """Send a batch as soon as there is room."""
        data = packed(batch) if self._are_small else None
        self._are_small = data is not None
        with self._changed:
            is_refused = self._is_stopped
            if not is_refused:
                self._n_open += 1
                self._waiting.append((data or batch, callback))
        if is_refused:
            self._call(callback, Outcome(error=TaskCancelled()))
        else:
            self._send_waiting()

    def _send_waiting(self) -> None:
        with self._changed:
            while self._waiting and self._n_sent < self._n_at_once:
                batch, callback = self._waiting.popleft()
                try:
                    submission = self._session.portal.submit(self._execute, batch, callback)
                except offloop.SessionClosedError as error:
                    self._ended.put((callback, Outcome(error=error)))
                    continue
                self._n_sent += 1
                self._under_way[submission.future] = submission
                submission.future.add_done_callback(partial(self._over, callback))

    def _over(self, callback: Callback, future: Future[None]) -> None:
        self._under_way.pop(future, None)
        error = future.exception()
        if isinstance(error, offloop.SessionClosedError):  # before it began, for `_execute` raises none
            self._ended.put((callback, Outcome(error=error)))

    async def _execute(self, batch: Any, callback: Callback) -> None:
        outcome = Outcome(error=TaskCancelled())
        fn: Callable[[Any], Any] = pickle.loads if isinstance(batch, bytes) else make_calls
        try:
            outcome = Outcome(await self._session.run(fn, batch, strategy="processes", **self._options))
        except Exception as error:
            outcome = Outcome(error=as_joblib_raises(error))
        finally:
            with self._changed:
                self._n_sent -= 1
            self._ended.put((callback, outcome))
        self._send_waiting()

    def _deliver(self) -> None:
        """Tell joblib of the end of batches, in the thread."""
        while (ended := self._ended.get()) is not None:
            if not self._is_aborted:
                self._call(*ended)
            del ended
            with self._changed:
                self._n_open -= 1
                if not self._n_open:
                    self._changed.notify_all()

    def _call(self, callback: Callback, outcome: Outcome) -> None:
        try:
            callback(outcome)
        except BaseException as error:
            outcome = Outcome(error=error)
            _add_failure(callback, outcome)
        finally:
            if outcome.error is not None:
                with self._changed:
                    self._has_failed = True
                    self._changed.notify_all()

    def wait(self) -> None:
        """Wait until everything that was sent is over, or something has failed."""
        with self._changed:
            while self._n_open and not self._has_failed:
                self._changed.wait()

    def stop(self) -> None:
        """End it from outside of joblib, by failing what is under way and what will be sent; returns at once."""
        with self._changed:
            self._is_stopped = True
            self._waiting.clear()
            submissions = list(self._under_way.values())
        for submission in submissions:
            submission.cancel()

    def abort(self) -> None:
        """Cancel everything; returns when it has stopped. No callback is called any more.

        A callback that is in the caller's iterable is left there: nothing can make that go on.
        """
        self._is_aborted = True
        self.stop()
        self._wait_for_workers()
        self._ended.put(None)

    def close(self) -> None:
        """Return when nothing is under way."""
        self._wait_for_workers()
        self._ended.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _wait_for_workers(self) -> None:
        if not self._session.portal.is_here:
            wait(list(self._under_way))


def _add_failure(callback: Any, failure: Outcome) -> None:
    """Have joblib raise what the caller's iterable has raised in a callback; by itself it takes only an Exception from there."""
    failed = type(callback)(0.0, 1, callback.parallel)
    callback.parallel._register_new_job(failed)  # there is no public name for it
    failed(failure)


def as_joblib_raises(error: Exception) -> BaseException:
    """Return what joblib raises in the place of an error of ours: the user's own where that is at hand, its cause otherwise."""
    if isinstance(error, offloop.ItemError) and error.__cause__ is not None:
        return error.__cause__  # a KeyboardInterrupt or SystemExit, which ends no event loop here
    if isinstance(error, offloop.UnpicklableError):
        pickling = pickle.PicklingError(f"the task to send to a worker, or its result, can't be pickled: {error}")
        pickling.__cause__ = error
        return pickling
    return error


class Calls:
    """The joblib calls under way in one place, so that they can be stopped together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Dispatcher] = set()
        self.is_stopped = False

    def begin(self, session: offloop.ParallelSession, n_at_once: int, options: dict[str, Any]) -> Dispatcher:
        """Return a dispatcher for another call."""
        with self._lock:
            dispatcher = Dispatcher(session, n_at_once, options, is_stopped=self.is_stopped)
            self._open.add(dispatcher)
        return dispatcher

    def end(self, dispatcher: Dispatcher) -> None:
        """Forget one that is over."""
        with self._lock:
            self._open.discard(dispatcher)

    def stop(self) -> None:
        """Stop those under way, and those to come at their first batch; returns at once."""
        with self._lock:
            self.is_stopped = True
            dispatchers = list(self._open)
        for dispatcher in dispatchers:
            dispatcher.stop()
