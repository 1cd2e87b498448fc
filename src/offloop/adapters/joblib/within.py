"""joblib within one function, on the workers of one session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from joblib import parallel_config

import offloop

from .backend import OffloopBackend

R = TypeVar("R")


class Joblib:
    """joblib as `ParallelSession.run_joblib` has it: on this session's workers, and to be stopped.

    Args:
        session: The session.
    """

    def __init__(self, session: offloop.ParallelSession) -> None:
        self._backend = OffloopBackend(session)

    def call(self, fn: Callable[[], R]) -> R:
        """Call fn in this thread, and return what it returns.

        Raises:
            TaskCancelled: joblib was called after `stop`, or was under way then.
        """
        with parallel_config(backend=self._backend):
            return fn()

    def stop(self) -> None:
        """Have joblib's calls in fn raise `TaskCancelled`, now and from now on; returns at once, from any thread."""
        self._backend.stop()
