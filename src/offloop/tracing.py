"""Spans of runs, made by whatever is there to make them; nothing is there at first."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from .forking import in_forked_child
from .telemetry import current_context
from .worker.context import SPAN, Context, current_span
from .worker.task import in_worker

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("offloop")


class Tracer(Protocol):
    """Makes spans; what it raises never changes a result.

    It is called on event loops, of several threads at once, in the context of the run's task or of one that it has started.
    """

    def begin(self, entrance: str, fn: str, label: str | None) -> object:
        """Begin the span of a run, which is the current one until its end.

        Args:
            entrance: How it was called: ``run``, ``run_parallel``, ``run_batches``, ``run_branches``, ``stream``, or ``unit`` of a branch.
            fn: Name of the function.
            label: The run's name, as the call gives it.

        Returns:
            What `end` gets.
        """
        ...

    def end(self, run: Any, error: type[BaseException] | None) -> None:
        """End the span of a run.

        Args:
            run: What `begin` returned.
            error: The type of what ended the run; not an Exception where it was cancelled; None where it came to its end.
        """
        ...

    def chunk(self, start: int, n_items: int, seconds: float, is_remote: bool, pid: int | None) -> None:
        """Take note that a chunk of the current run is over, as of now.

        Args:
            start: Index of its first item.
            n_items: How many of its items were executed.
            seconds: How long that took.
            is_remote: Whether it was executed in another process.
            pid: Of that process; None where it isn't known.
        """
        ...

    def carrier(self) -> Mapping[str, str]:
        """Return the W3C trace context of the current run's span, which spans of its items are made children by; empty without one."""
        ...


class Traced(Protocol):
    """A run, as its span shows it."""

    name: str
    label: str | None

    @property
    def entrance(self) -> Callable[..., str]:
        """Returns how it was called, see `Tracer.begin`; gets what `traced` decorates does."""
        ...

    def ends_in(self) -> type[BaseException] | None:
        """Return what its caller will be raised, though it has come to its end; None where that is nothing."""
        ...


S = TypeVar("S", bound=Traced)


def use_tracer(tracer: Tracer) -> Callable[[], None]:
    """Have spans made of all runs that begin from now on, in place of another that does so.

    Returns:
        A function that ends this again, unless another has taken its place; it may be called more than once.
    """
    global _tracer
    with _lock:
        _tracer = tracer

    def remove() -> None:
        global _tracer
        with _lock:
            if _tracer is tracer:
                _tracer = None

    return remove


def traced(
    execute: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Decorate what executes a run: that gets a span, if spans are made."""

    async def with_span(tracer: Tracer, run: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        begun = _quietly(tracer.begin, run.entrance(*args, **kwargs), run.name, run.label)
        error: type[BaseException] | None = None
        try:
            result = await execute(run, *args, **kwargs)
            error = run.ends_in()
            return result
        except BaseException as raised:
            error = type(raised)
            raise
        finally:
            _quietly(tracer.end, begun, error)

    @wraps(execute)
    def begin(run: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        tracer = _tracer
        return execute(run, *args, **kwargs) if tracer is None else with_span(tracer, run, *args, **kwargs)

    return begin


def tell_chunk(start: int, n_items: int, seconds: float, *, is_remote: bool, pid: int | None = None) -> None:
    """Tell that a chunk is over; see `Tracer.chunk`."""
    if (tracer := _tracer) is not None:
        _quietly(tracer.chunk, start, n_items, seconds, is_remote, pid)


def travelling_context() -> Context | None:
    """Return what goes with a run to wherever its items execute: the caller's log context, and the run's span; None if that is nothing.

    In a worker, where no spans of runs are made, it is the span of the item that has started it.
    """
    fields, tracer = current_context(), _tracer
    carrier = None
    if tracer is not None or in_worker():
        carrier = _quietly(current_span if tracer is None else tracer.carrier)
    return {**(fields or {}), SPAN: dict(carrier)} if carrier else fields


def _quietly(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    global _has_failed
    try:
        return function(*args, **kwargs)
    except (Exception, SystemExit):  # as of a sink
        if not _has_failed:
            _has_failed = True
            with contextlib.suppress(Exception):  # a filter of the application's may raise as well
                _log.exception("spans can't be made; further failures are not logged")
        return None


_tracer: Tracer | None = None
_has_failed = False
_lock = threading.Lock()  # held by those who replace the tracer


@in_forked_child
def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
