"""A session for callers that block: in scripts, notebooks and threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar, Unpack

from .default import close_default_session, default_session
from .model import Decision
from .session import ParallelSession
from .settings import ParallelConfig, Settings, SettingSource
from .streaming import Stream
from .sync_streaming import SyncStream
from .sync_waiting import block, block_apart, refuse_on
from .wire.pickling import function_name

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_PARAGRAPH = "\n\n"


def _blocking(method: Callable[Concatenate[ParallelSession, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[SyncSession, P], T]:
    """Return an async method of a session as one that blocks."""
    instead = f"await session.{method.__name__}(...)"

    def call(self: SyncSession, /, *args: P.args, **options: P.kwargs) -> T:
        session = self._session
        return block(session.portal, _subject(method, args), instead, partial(method, session, *args, **options))

    return _described(call, method, f"SyncSession.{method.__name__}")


def _on_default(method: Callable[Concatenate[ParallelSession, P], Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Return an async method of a session as a function that blocks, on the process-wide session."""
    instead = f"await offloop.{method.__name__}(...)"

    def call(*args: P.args, **options: P.kwargs) -> T:
        session = default_session()
        return block(session.portal, _subject(method, args), instead, partial(method, session, *args, **options))

    return _described(call, method, f"{method.__name__}_sync")


def _streaming(method: Callable[Concatenate[ParallelSession, P], Stream[R]]) -> Callable[Concatenate[SyncSession, P], SyncStream[R]]:
    """Return a method that makes a stream as one that makes it for callers that block."""

    def call(self: SyncSession, /, *args: P.args, **options: P.kwargs) -> SyncStream[R]:
        return SyncStream(method(self._session, *args, **options), self._session.portal)

    return _described(call, method, f"SyncSession.{method.__name__}")


def _at_once(method: Callable[Concatenate[ParallelSession, P], T]) -> Callable[Concatenate[SyncSession, P], T]:
    """Return a method that doesn't wait as it is."""

    def call(self: SyncSession, /, *args: P.args, **options: P.kwargs) -> T:
        return method(self._session, *args, **options)

    return _described(call, method, f"SyncSession.{method.__name__}")


def _subject(method: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """Return the name of the function that a method of a session is to call; its own where that is none."""
    return function_name(args[0]) if args and callable(args[0]) else method.__name__


def _described(call: Callable[P, T], method: Callable[..., Any], name: str) -> Callable[P, T]:
    """Give what stands for a method of a session a name, that method's signature and summary, and where to read on."""
    summary = (method.__doc__ or "").partition(_PARAGRAPH)[0]
    call.__doc__ = f"{summary}\n\nSee `ParallelSession.{method.__name__}`."
    call.__qualname__, call.__name__ = name, name.rpartition(".")[2]
    call.__wrapped__ = method if "." in name else partial(method, None)  # type: ignore[attr-defined]  # for signatures
    return call


class SyncSession:
    """A `ParallelSession` for callers that block: scripts, notebooks, threads.

    Use it as a context manager, or `open` it and `close` it. Each method does what its namesake there does, in the same words,
    and returns when that is done. Any number of threads may call at once, items among them. A thread that has an event loop, a
    notebook's say, may call too: that loop is held meanwhile. Async iterables are read on an event loop of the session's own.

    Ctrl-C cancels the call that waits, and KeyboardInterrupt is raised when its work has stopped; a second one is raised at once.

    Args:
        config: The settings; see `ParallelConfig`.
        **settings: Settings that replace those of the config.

    Raises:
        SettingError: A setting, or a variable of the environment, has a value that can't work.
        SettingTypeError: A setting does not exist, or its value is of the wrong type.
        RuntimeError: A method is called by async code on the event loop of the session's own, which would wait for itself.
    """

    def __init__(self, config: ParallelConfig | None = None, **settings: Unpack[Settings]) -> None:
        self._session = ParallelSession(config, **settings)

    run: Final = _blocking(ParallelSession.run)
    run_parallel: Final = _blocking(ParallelSession.run_parallel)
    run_batches: Final = _blocking(ParallelSession.run_batches)
    run_branches: Final = _blocking(ParallelSession.run_branches)
    run_joblib: Final = _blocking(ParallelSession.run_joblib)
    stream: Final = _streaming(ParallelSession.stream)
    decide: Final = _blocking(ParallelSession.decide)
    warm: Final = _blocking(ParallelSession.warm)
    drain: Final = _blocking(ParallelSession.drain)
    share: Final = _at_once(ParallelSession.share)
    release: Final = _at_once(ParallelSession.release)
    statistics: Final = _at_once(ParallelSession.statistics)
    executor: Final = _at_once(ParallelSession.executor)

    @property
    def config(self) -> ParallelConfig:
        """The settings as they hold."""
        return self._session.config

    @property
    def sources(self) -> Mapping[str, SettingSource]:
        """Where each setting comes from: a keyword, the config, the environment or the default."""
        return self._session.sources

    @property
    def decisions(self) -> deque[Decision]:
        """The last 128 decisions, the latest at the end; a run that moves has one for each move."""
        return self._session.decisions

    def __enter__(self) -> Self:
        """Open the session; starts nothing yet."""
        return self.open()

    def open(self) -> Self:
        """Open the session without a context.

        Raises:
            SessionClosedError: It was open before.
        """
        self._session.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session; see `close`."""
        self.close()

    def close(self) -> None:
        """End the session and return when nothing of it is left; see `ParallelSession.aclose`. Idempotent."""
        _close(self._session, self._session.aclose, "await session.aclose()")

    def __reduce__(self) -> Any:
        """Refuse: workers can't be sent anywhere."""
        raise TypeError(
            "a SyncSession can't be pickled, so it can't be an argument or be bound in fn. "
            "Inside a worker call offloop.run_parallel_sync: it runs right there."
        )


def _close(session: ParallelSession, close: Callable[[], Coroutine[Any, Any, None]], instead: str) -> None:
    """Close a session, and with it its portal: so that happens on another event loop."""
    refuse_on(session.portal, instead)
    block_apart(close)


run_sync: Final = _on_default(ParallelSession.run)
run_parallel_sync: Final = _on_default(ParallelSession.run_parallel)
run_batches_sync: Final = _on_default(ParallelSession.run_batches)
run_branches_sync: Final = _on_default(ParallelSession.run_branches)


def close_default_session_sync() -> None:
    """Close the process-wide session, see `close_default_session`, and return when that is done; its next use opens another."""
    _close(default_session(), close_default_session, "await offloop.close_default_session()")
