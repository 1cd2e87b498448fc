"""The process-wide session behind the module-level functions."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from .forking import in_forked_child
from .session import ParallelSession

_lock = threading.Lock()
_session: ParallelSession | None = None
_closing: set[ParallelSession] = set()


def default_session() -> ParallelSession:
    """Return the process-wide session, opened at its first use.

    Its workers are reused from call to call, from whatever event loop; they end themselves after
    ``OFFLOOP_IDLE_TIMEOUT_S`` without work, and at the end of the process.
    """
    global _session
    if _session is None:
        with _lock:
            if _session is None:
                _session = ParallelSession().open()
    return _session


async def close_default_session() -> None:
    """Close the process-wide session, see `ParallelSession.aclose`, and return when that is done; its next use opens another."""
    global _session
    with _lock:
        if _session is not None:
            _closing.add(_session)
        _session = None
        sessions = list(_closing)  # those too that somebody else is closing
    for session in sessions:
        try:
            await session.aclose()
        finally:
            _closing.discard(session)


if TYPE_CHECKING:
    run: Final = ParallelSession().run
    run_parallel: Final = ParallelSession().run_parallel
    run_batches: Final = ParallelSession().run_batches
    run_branches: Final = ParallelSession().run_branches
else:

    async def run(fn: Any, *args: Any, **options: Any) -> Any:
        """Call ``fn(*args)`` off the loop, on the process-wide session; see `ParallelSession.run`."""
        return await default_session().run(fn, *args, **options)

    async def run_parallel(fn: Any, items: Any, **options: Any) -> Any:
        """Call ``fn(item)`` for every item, on the process-wide session; see `ParallelSession.run_parallel`."""
        return await default_session().run_parallel(fn, items, **options)

    async def run_batches(fn: Any, X: Any, *others: Any, **options: Any) -> Any:
        """Call fn for blocks of the rows of X, on the process-wide session; see `ParallelSession.run_batches`."""
        return await default_session().run_batches(fn, X, *others, **options)

    async def run_branches(branches: Any, **options: Any) -> Any:
        """Make calls that differ, side by side, on the process-wide session; see `ParallelSession.run_branches`."""
        return await default_session().run_branches(branches, **options)


@in_forked_child
def _after_fork_in_child() -> None:
    global _session, _lock
    _lock = threading.Lock()
    _session = None  # its workers are the parent's
    _closing.clear()
