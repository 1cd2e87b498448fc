"""Inline sessions: the public API, executed in this process, in one known order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Unpack

from .. import default
from ..checks import strategy_of
from ..events import RunDecided
from ..model import Strategy
from ..sensing import system
from ..session import ParallelSession
from ..settings import ParallelConfig, Settings
from ..telemetry import add_sink
from .faults import Fault, FaultBook, Faults
from .host import InlineSystem
from .lanes import Terms, inline_means
from .recording import Events


class InlineSession(ParallelSession):
    """A session without worker processes: what would be sent to one is executed in a thread of this process.

    It is a `ParallelSession` in all else, on any event loop: the same runs, options, errors, counts and events. Items are executed one
    after another, in the order of their indexes; an item that is retried comes before those behind it. Nothing depends on the
    machine: neither ``OFFLOOP_*`` variables, nor CI, nor what runs are measured to take, as each item counts as 1 ms. Which of several
    calls that wait at the same time comes first is open, as with workers.

    Unless a call, or the session, asks for another strategy than the default, that is ``processes``. Runs that ask for
    ``serial``, ``threads`` or ``auto`` execute as ever, with one thread.

    Args:
        config: The settings; see `ParallelConfig`.
        faults: What is to go wrong; see `inject`.
        strict: Have fn, items, results and exceptions travel as they would to a worker, by pickling them, so that what can't is told
            as there, and fail items that change what they are given (`MutatedArgument`). Without it they are passed as they are.
        may_mutate: Allow fn to change what it is given, where ``strict``.
        cores: How many cores the host has, for decisions: there is one lane whatever ``workers`` says.
        **settings: Settings that replace those of the config.

    Raises:
        SettingError, SettingTypeError: As for `ParallelSession`.
    """

    def __init__(
        self,
        config: ParallelConfig | None = None,
        *,
        faults: Faults | None = None,
        strict: bool = True,
        may_mutate: bool = False,
        cores: int = 4,
        **settings: Unpack[Settings],
    ) -> None:
        self._book = FaultBook()
        self._means = inline_means(Terms(self._book, strict, may_mutate))
        if faults is not None:
            self._book.add(faults, None)
        with _on_a_host(cores, Strategy.PROCESSES):
            super().__init__(config, **settings)

    def inject(self, faults: Faults, *, fn: Callable[..., Any] | None = None) -> None:
        """Have something go wrong.

            session.inject({3: Crash(), 5: TimeOut()})
            session.inject(lambda index, item: Crash() if item < 0 else None, fn=score)

        Args:
            faults: By index of the item, 0 for a single call, a fault or several that come one after the other; for an `Overload` it is
                the number of the call, counted from 0 since it was injected. Or a function of index and item, a tuple of arguments
                for a single call, that returns a fault or None, whenever an item is sent.
            fn: The only function that they happen to, as it is or in a partial; None: any.
        """
        self._book.add(faults, fn)

    @property
    def faults_left(self) -> list[Fault]:
        """Faults, of those given by index, that have not happened as often as they were to."""
        return self._book.left


class Kit:
    """What a test has of the sessions that are made while it runs.

    Attributes:
        session: The process-wide session, behind `offloop.run` and its like.
        events: What was told.
    """

    def __init__(self, book: FaultBook) -> None:
        self.session: ParallelSession
        self.events = Events()
        self._book = book

    @property
    def decisions(self) -> list[RunDecided]:
        """How runs were decided on, of all sessions, in order."""
        return self.events.of(RunDecided)

    def inject(self, faults: Faults, *, fn: Callable[..., Any] | None = None) -> None:
        """Have something go wrong, in any of the sessions; see `InlineSession.inject`."""
        self._book.add(faults, fn)

    @property
    def faults_left(self) -> list[Fault]:
        """Faults, of those given by index, that have not happened as often as they were to."""
        return self._book.left


@contextmanager
def inline(
    faults: Faults | None = None,
    *,
    strict: bool = True,
    may_mutate: bool = False,
    cores: int = 4,
    **settings: Unpack[Settings],
) -> Iterator[Kit]:
    """Make every session inline that is made in this context, whoever makes it, and the process-wide one.

        with inline({0: Crash()}) as kit:
            assert offloop.run_sync(math.sqrt, 4.0) == 2.0

    So an app's own ``ParallelSession(...)`` becomes one, and that of `offloop.adapters.starlette`. Sessions that there were before stay what
    they are. At the end the process-wide session is closed and the former one is back; others are left to those who made them.

    Args:
        faults: What is to go wrong, in any of the sessions; see `InlineSession.inject`.
        strict: As for `InlineSession`.
        may_mutate: Likewise.
        cores: Likewise.
        **settings: Settings of the process-wide session; ``strategy`` is the default of all.
    """
    book = FaultBook()
    if faults is not None:
        book.add(faults, None)
    kit = Kit(book)
    strategy = strategy_of(settings.get("strategy", Strategy.PROCESSES))
    with ExitStack() as stack:
        stack.callback(add_sink(kit.events.record))
        stack.enter_context(_on_a_host(cores, strategy))
        stack.enter_context(_replaced(ParallelSession, "_means", inline_means(Terms(book, strict, may_mutate))))
        kit.session = ParallelSession(**settings).open()
        stack.enter_context(_process_wide(kit.session))
        yield kit


@contextmanager
def _on_a_host(cores: int, strategy: Strategy) -> Iterator[None]:
    """Have sessions that are made in this context see the same host everywhere."""
    environ = {"OFFLOOP_PARALLEL": "on" if strategy is Strategy.AUTO else strategy.value}

    def view() -> InlineSystem:
        return InlineSystem(cores, environ)

    system.views.append(view)
    try:
        yield
    finally:
        system.views.remove(view)


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _process_wide(session: ParallelSession) -> Iterator[None]:
    """Have the module-level functions use this session; close it at the end, and what has taken its place."""
    before, default._session = default._session, session
    try:
        yield
    finally:
        last, default._session = default._session, before
        closing = [session] if last is None or last is session else [session, last]
        thread = threading.Thread(target=lambda: asyncio.run(_close(closing)), name="offloop-testing")
        thread.start()  # since an event loop may run in this one
        thread.join()


async def _close(sessions: list[ParallelSession]) -> None:
    for session in sessions:
        await session.aclose()
