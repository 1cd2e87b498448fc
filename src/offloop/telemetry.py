"""Telling sinks what happens; a sink that raises never changes a result."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from .errors import SettingTypeError
from .events import (
    Event,
    ItemAbandoned,
    WorkerKilled,
    WorkerOutput,
    WorkerOutputDropped,
    WorkerRetired,
    WorkerStarted,
)
from .forking import in_forked_child
from .worker.capturing import is_structlog_captured
from .worker.context import Context, bound, plain_fields
from .worker.task import in_worker

Sink = Callable[[Event], object]

_METHODS = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}

_log = logging.getLogger("offloop")


class _Registered:
    """One registration of a sink, and the names of the events that it has failed on."""

    __slots__ = ("failed_on", "sink")

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.failed_on: set[str] = set()

    def tell(self, event: Event) -> None:
        try:
            self.sink(event)
        except (Exception, SystemExit):  # SystemExit would end the event loop that this runs on
            if event.event not in self.failed_on:
                self.failed_on.add(event.event)
                with contextlib.suppress(Exception):  # a filter of the application's may raise as well
                    _log.exception("a sink failed on %s; further failures on it are not logged", event.event)


def add_sink(sink: Sink) -> Callable[[], None]:
    """Have a function called with every event, beside the logs.

    It is called where the event happens: on the event loop, or in a thread that starts or ends a worker, so possibly
    in two threads at once. It must be thread-safe and quick, microseconds rather than milliseconds, and must not
    block: what takes longer belongs in a queue that something else empties. What it returns is ignored.

    What it raises never changes a result: the first failure on each kind of event is logged with the event's name, and
    the other sinks get the event all the same. That includes SystemExit, which would end the event loop, but not
    KeyboardInterrupt, which is meant for the program.

    Args:
        sink: A plain function of one event; the same one may be added several times, and is called as often.

    Returns:
        A function that removes the sink again; it may be called from any thread, and more than once.

    Raises:
        SettingTypeError: The sink isn't callable, or is async.
    """
    if not callable(sink) or inspect.iscoroutinefunction(sink) or inspect.iscoroutinefunction(type(sink).__call__):
        raise SettingTypeError("sink", sink, "pass a plain function of one event, not an async one.")
    registered = _Registered(sink)
    _replace(lambda sinks: (*sinks, registered))
    return lambda: _replace(lambda sinks: tuple(one for one in sinks if one is not registered))


def use_default_sink(enabled: bool) -> None:
    """Switch the logs on, as they are at first, or off.

    They are structlog's logger ``offloop`` where the application has configured structlog, for every event; else, or where
    its loggers are async, the standard library's logger ``offloop``, for those of level warning and above. Switched off,
    events go to the sinks of `add_sink` alone.

    Args:
        enabled: Whether events are logged.
    """
    first = (_DEFAULT,) if enabled else ()
    _replace(lambda sinks: (*first, *(one for one in sinks if one is not _DEFAULT)))


def emit(event: Event) -> None:
    """Hand an event to every sink."""
    for registered in _sinks:
        registered.tell(event)


def is_heard(level: int) -> bool:
    """Whether an event of this level goes anywhere, so that it is worth making."""
    return any(one is not _DEFAULT or _is_logged(level) for one in _sinks)


def tell_worker_started(pid: int, start_s: float) -> None:
    """Tell that a worker process answers, and after how long."""
    if is_heard(WorkerStarted.level):
        emit(WorkerStarted(pid=pid, start_s=start_s))


def tell_worker_killed(pid: int, why: str) -> None:
    """Tell that a worker process was killed under work that did not stop."""
    emit(WorkerKilled(pid=pid, why=why))


def tell_item_abandoned(fn: str, item: int | None, grace_s: float) -> None:
    """Tell that an item in a thread of this process did not stop and is left to itself."""
    emit(ItemAbandoned(fn=fn, item=item, grace_s=grace_s))


def tell_worker_retired(pid: int, why: str) -> None:
    """Tell that a worker process is replaced in good order."""
    if is_heard(WorkerRetired.level):
        emit(WorkerRetired(pid=pid, why=why))


def tell_worker_output(pid: int, item: int | None, stream: str, text: str) -> None:
    """Tell what code in a worker process has printed."""
    emit(WorkerOutput(pid=pid, item=item, stream=stream, text=text))


def tell_output_dropped(pid: int, n_dropped: int) -> None:
    """Tell that some of what was said in a worker process is lost."""
    emit(WorkerOutputDropped(pid=pid, n_dropped=n_dropped))


def current_context() -> Context | None:
    """Return what the caller has bound to structlog's context, as it may travel; None, after 0.3 µs, if that is nothing."""
    fields = bound()
    return plain_fields(fields) if fields else None


def _is_logged(level: int) -> bool:
    return level >= logging.WARNING or _structlog_is_configured()


def _structlog_is_configured() -> bool:
    structlog = sys.modules.get("structlog")
    if structlog is None or not hasattr(structlog, "is_configured") or not structlog.is_configured():
        return False
    return not (in_worker() and is_structlog_captured())


def log_by_structlog(names: tuple[str, ...], level: int, event: str, fields: Mapping[str, Any]) -> bool:
    """Log an event by the application's structlog; False of a logger that is async, by which nothing was logged.

    By the method that is named for the level: all classes of loggers have these, but not all of them ``log``.
    """
    import structlog

    method = _METHODS[level]
    if inspect.iscoroutinefunction(getattr(structlog.get_config()["wrapper_class"], method, None)):
        return False  # nor could such a logger be made outside of asyncio's event loop
    outcome = getattr(structlog.get_logger(*names), method)(event, **fields)
    if inspect.iscoroutine(outcome):
        outcome.close()  # nobody could await it here
        return False
    return True


def _write_log(event: Event) -> None:
    fields = event.as_dict()
    if _structlog_is_configured() and log_by_structlog(("offloop",), event.level, event.event, fields):
        return
    if isinstance(event, WorkerOutput):
        _print(event)
    elif event.level >= logging.WARNING:
        _log.log(event.level, "%s %s", event.event, " ".join(f"{name}={value!r}" for name, value in fields.items()))


def _print(line: WorkerOutput) -> None:
    """Print what was printed in a worker where this process prints now."""
    stream: Any = sys.stdout if line.stream == "stdout" else sys.stderr
    tag = f"[worker {line.pid}]" if line.item is None else f"[worker {line.pid} item {line.item}]"
    if stream is not None:
        try:
            stream.write(f"{tag} {line.text}\n")
        except UnicodeError:  # it is not of this stream's encoding
            stream.write(f"{tag} {line.text!a}\n")


_DEFAULT = _Registered(_write_log)

# Replaced as a whole and never changed, so that emit needs no lock and a sink may add or remove sinks.
_sinks: tuple[_Registered, ...] = (_DEFAULT,)
_lock = threading.Lock()  # held by those who replace it


def _replace(change: Callable[[tuple[_Registered, ...]], tuple[_Registered, ...]]) -> None:
    global _sinks
    with _lock:
        _sinks = change(_sinks)


@in_forked_child
def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
