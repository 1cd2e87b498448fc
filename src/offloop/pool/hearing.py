"""Handing what was said in a worker to those who would have got it here: loggers, warnings and sinks.

It is handled in the task that leases the lane, so that structlog's context is the caller's. Whatever handlers, filters and
sinks raise changes no result.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from ..telemetry import log_by_structlog, tell_output_dropped, tell_worker_output
from ..wire.frames import Said
from ..wire.pickling import loads

_MOST_LEVELS = 1000  # loggers whose level a worker is told; a guess
_MOST_SHOWN = 1000  # warnings that are remembered

_log = logging.getLogger("offloop")
_warnings = logging.getLogger("py.warnings")  # as `logging.captureWarnings` has it
_shown: dict[str, dict[Any, Any]] = {}  # by file: what `warnings` remembers of a module


def wanted_levels() -> dict[str, int]:
    """Return the levels of this process's loggers by name, so that a worker makes no record that nobody asks for."""
    levels = {"": logging.getLogger().level}
    for name, logger in logging.getLogger().manager.loggerDict.copy().items():
        if isinstance(logger, logging.Logger) and logger.level and len(levels) < _MOST_LEVELS:
            levels[name] = logger.level
    return levels


def hear(pid: int, payload: bytes | memoryview) -> None:
    """Hand on what a frame from a worker brings."""
    n_dropped, records = loads(payload)
    if n_dropped:
        tell_output_dropped(pid, n_dropped)
    for kind, item, *fields in records:
        try:
            _HANDLERS[kind](pid, item, *fields)
        except (Exception, SystemExit):  # SystemExit would end the event loop that this runs on
            with contextlib.suppress(Exception):
                _log.exception("what was logged or warned in worker %d could not be handed on", pid)


def _logged(pid: int, item: int | None, own: dict[str, Any], extra: dict[str, Any]) -> None:
    logger = logging.getLogger(own["name"])
    if logger.isEnabledFor(own["levelno"]):
        filename = os.path.basename(own["pathname"] or "")
        origin = {"filename": filename, "module": os.path.splitext(filename)[0], "process": pid}
        tags = {"worker_pid": pid, "item": item}
        logger.handle(logging.makeLogRecord({**tags, **extra, **own, **origin}))


def _event(pid: int, item: int | None, level: int, name: str | None, event: str, fields: dict[str, Any]) -> None:
    tags = {"worker_pid": pid, "item": item}
    safe = {f"{key}_" if key in ("self", "level", "event") else key: value for key, value in fields.items()}
    if not log_by_structlog(() if name is None else (name,), level, event, {**tags, **safe}):
        text = " ".join(f"{key}={value!r}" for key, value in fields.items())
        logging.getLogger(name).log(level, "%s %s", event, text, extra=tags)


def _warned(pid: int, item: int | None, kind: str, text: str, filename: str, lineno: int) -> None:
    warning = _warning_of(kind, text)
    vars(warning).update(worker_pid=pid, item=item)
    if sum(map(len, _shown.values())) >= _MOST_SHOWN:
        _shown.clear()
    try:
        warnings.warn_explicit(warning, type(warning), filename, lineno, registry=_shown.setdefault(filename, {}))
    except Exception:  # a filter makes errors of them, and here it would be nobody's
        tags = {"worker_pid": pid, "item": item}
        _warnings.warning("%s:%s: %s: %s", filename, lineno, type(warning).__name__, text, extra=tags)


def _warning_of(kind: str, text: str) -> Warning:
    """Return a warning of this class, if this process knows it; nothing is imported for that."""
    module, _, name = kind.rpartition(".")
    found = getattr(sys.modules.get(module, builtins), name, None)
    if isinstance(found, type) and issubclass(found, Warning):
        with contextlib.suppress(Exception):
            warning = found(text)
            if str(warning) == text:
                return warning
    return UserWarning(text)


_HANDLERS: dict[int, Callable[..., None]] = {
    Said.PRINTED: tell_worker_output,
    Said.LOGGED: _logged,
    Said.EVENT: _event,
    Said.WARNED: _warned,
}
