"""The thread in which a study is used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
import optuna
from anyio.lowlevel import current_token

P = ParamSpec("P")
T = TypeVar("T")


class StudyThread:
    """One thread in which all calls of a study are made, one after another: of its storage, sampler, pruner and callbacks.

    A study keeps by thread what it has read of its storage, a storage keeps connections so, and samplers are made for one
    caller at a time.

    Args:
        study: The study. In this thread it is in its optimize loop, as its `stop` and its heartbeats want it.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="offloop-optuna", initializer=_enter, initargs=(study,))
        loop: Any = current_token().native_token
        self._post: Callable[[Callable[[], object]], object] = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon

    def submit(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called in the thread, in the caller's context; from any thread.

        Raises:
            RuntimeError: The thread has ended.
        """
        return self._pool.submit(copy_context().run, partial(fn, *args, **kwargs))

    async def do(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have a function called in the thread, and return what it returns.

        Cancelling takes back a call that has not begun, and otherwise returns when it has ended.
        """
        future = self.submit(fn, *args, **kwargs)
        ended = anyio.Event()
        future.add_done_callback(lambda _: self._tell(ended))
        try:
            await ended.wait()
        except anyio.get_cancelled_exc_class():
            if not future.cancel():
                with anyio.CancelScope(shield=True):
                    await ended.wait()
            raise
        return future.result()

    def _tell(self, ended: anyio.Event) -> None:
        with suppress(RuntimeError):  # the event loop is gone
            self._post(ended.set)

    async def end(self) -> None:
        """End the thread, and return when it has ended; what is left to do is done before."""
        with anyio.CancelScope(shield=True):
            await self.do(self._study._storage.remove_session)
        self._pool.shutdown()


def _enter(study: optuna.Study) -> None:
    study._thread_local.in_optimize_loop = True  # there is no public name for it
