"""The joblib backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from joblib.parallel import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    cpu_count,
)

import offloop
from offloop import TaskCancelled

from ...default import default_session
from ...options import resolve_options
from ...settings import ParallelConfig
from .dispatching import Callback, Calls, Dispatcher, Outcome, make_calls
from .inputs import Inputs
from .nested import Prepared, WorkerBackend
from .on_loop import tell_if_on_loop

_Batching: Any = AutoBatchingMixin  # untyped, and what its methods return can't be inferred
_Backend: Any = ParallelBackendBase

_OPTIONS = frozenset({"retries", "grace_s", "max_wait_s", "priority", "label"})
_DEFAULTS = {"priority": "batch", "label": "joblib"}
_MANY = 1 << 20


class OffloopBackend(_Batching, _Backend):  # type: ignore[misc]
    """Executes joblib's calls on a session's workers: ``joblib.parallel_config("offloop")``.

    All calls of `joblib.Parallel` under it, scikit-learn's included, share the session's workers with whatever else it does, and
    with each other. Unless told otherwise they use all of them: ``n_jobs=None`` means -1. joblib's own negative values hold,
    -2 is all cores but one; ``n_jobs=1`` is joblib's own loop in the thread of the caller. Values, their order and what is
    raised are joblib's. A worker that dies costs its batch only, which is tried again; then it fails as `WorkerCrashed`.

    When joblib aborts, by an exception, a ``timeout``, a KeyboardInterrupt or a generator that is dropped, what is under way is
    cancelled and has stopped when joblib returns: as for `ParallelSession.run`, at the latest after ``grace_s``.

    Arrays, frames and sparse matrices that stand in several batches go to workers once, in memory and not by a folder, if they have
    joblib's ``max_nbytes``; each worker may write to what it got. Within a worker joblib has threads, as many as the worker
    has cores to itself, so mostly none: nested calls are sequential.

    Args:
        session: Whose workers; the process-wide session's if None.
        nesting_level: joblib's.
        inner_max_num_threads: How many threads libraries in C may use in a worker; None for the worker's share of the cores.
        initializer: Called once in each worker, before the first batch of a Parallel, or of those under one `parallel_config`;
            ``worker_init`` of the session is for all that it does.
        initargs: Its arguments.
        **options: ``retries``, ``grace_s``, ``max_wait_s``, ``priority`` and ``label`` of each batch, see `CallOptions`.

    Raises:
        SettingError: An option's value can't work.
        SettingTypeError: There is no such option.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        session: offloop.ParallelSession | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._initializer = initializer, initargs, uuid4().hex
        resolve_options(ParallelConfig(), options, _OPTIONS, is_consent=False)
        self.parallel: Any = None
        self._session, self._options, self._calls = session, options, Calls()
        self._n_at_once = self._n_workers = 1
        self._dispatcher: Dispatcher | None = None
        self._inputs: Inputs | None = None
        self._max_bytes: float | None = None

    def __reduce__(self) -> Any:
        """Refer to the process-wide session, wherever it arrives: no other can be sent."""
        return OffloopBackend, ()

    # --- before a call -----------------------------------------------------------------------------------------------

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches are executed at a time for so many jobs; never more than the session has workers.

        Raises:
            ValueError: n_jobs is 0.
            SessionClosedError: The session isn't open.
        """
        if offloop.in_worker():
            return WorkerBackend(nesting_level=self.nesting_level).effective_n_jobs(n_jobs)
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        if n_jobs < 0:
            n_jobs = max(cpu_count() + 1 + n_jobs, 1)
        if n_jobs == 1:
            return 1
        session = self._open_session()
        decision = session.portal.call(partial(session.decide, make_calls, range(_MANY), strategy="processes"))
        self._n_workers = decision.workers
        return min(n_jobs, self._n_workers)

    def _open_session(self) -> offloop.ParallelSession:
        return default_session() if self._session is None else self._session

    def configure(self, n_jobs: int = 1, parallel: Any = None, **given: Any) -> int:
        """Make ready for the calls of a `joblib.Parallel`, and return how many batches are executed at a time.

        Raises:
            FallbackToBackend: Another backend is to be used: one for this Parallel alone, or joblib's own for a single job.
            TaskCancelled: `stop` was called.
        """
        if offloop.in_worker():
            raise FallbackToBackend(WorkerBackend(nesting_level=self.nesting_level))
        if self.parallel is not parallel:
            raise FallbackToBackend(self._for(parallel, given))
        tell_if_on_loop()
        if self._calls.is_stopped:
            raise TaskCancelled
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        # Where there are no more workers, the next batches wait ready to be sent: joblib has two for each job at hand.
        self._n_at_once = 2 * n_jobs if n_jobs == self._n_workers else n_jobs
        self._max_bytes = given.get("max_nbytes")
        return n_jobs

    def _for(self, parallel: Any, given: dict[str, Any]) -> OffloopBackend:
        """Return a backend for one Parallel, so that each has batches and counts of its own."""
        own = {name: value for name, value in given.items() if name in _OPTIONS}
        session = given.get("session", self._session)
        backend = type(self)(session, self.nesting_level, self.inner_max_num_threads, **{**self._options, **own})
        backend.parallel, backend._calls = parallel, self._calls
        if "initializer" in given:
            backend._initializer = given["initializer"], given.get("initargs", ()), uuid4().hex
        else:
            backend._initializer = self._initializer
        return backend

    def get_nested_backend(self) -> tuple[Any, None]:
        """Return what joblib uses in workers."""
        return WorkerBackend(nesting_level=(self.nesting_level or 0) + 1), None

    # --- during a call -----------------------------------------------------------------------------------------------

    def submit(self, func: Any, callback: Callback | None = None) -> None:
        """Send a batch to a worker."""
        assert callback is not None
        if self._dispatcher is None:
            session = self._open_session()
            self._inputs = Inputs(session, self._max_bytes)
            self._dispatcher = self._calls.begin(session, self._n_at_once, _DEFAULTS | self._options)
        try:
            if self._inputs is not None:
                self._inputs.look_at(func)
        except offloop.SessionClosedError as error:  # may be in a thread where nobody would hear of it
            callback(Outcome(error=error))
            return
        if self.inner_max_num_threads is not None or self._initializer[0] is not None:
            func = Prepared(func, *self._initializer, self.inner_max_num_threads)
        self._dispatcher.send(func, callback)

    def retrieve_result_callback(self, out: Outcome) -> list[Any] | None:
        """Return what a batch returned, or raise what it raised."""
        return out.result()

    @contextmanager
    def retrieval_context(self) -> Iterator[None]:
        """Wait for the end where joblib would only look for it, 100 times a second."""
        if self._dispatcher is not None and self.parallel.return_as == "list" and self.parallel.timeout is None:
            self._dispatcher.wait()
        yield

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel everything that is under way; returns when it has stopped."""
        if self._dispatcher is not None:
            self._dispatcher.abort()
            self._end()

    # --- after a call ------------------------------------------------------------------------------------------------

    def stop_call(self) -> None:
        """Let go of what there was for the call."""
        if self._dispatcher is not None:
            self._dispatcher.close()
            self._end()

    def _end(self) -> None:
        if self._dispatcher is not None:
            self._calls.end(self._dispatcher)
        if self._inputs is not None:
            self._inputs.release()
        self._dispatcher = self._inputs = None

    def terminate(self) -> None:
        """Forget how long batches took; the workers are the session's, and stay."""
        self.reset_batch_stats()

    def stop(self) -> None:
        """Have every joblib call under this backend fail with `TaskCancelled`, now and from now on; returns at once."""
        self._calls.stop()
