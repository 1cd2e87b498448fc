"""Capturing what is said in a worker: what is printed, logged by logging and structlog, and warned."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Any, TextIO

from ..wire.failures import safe_text
from ..wire.frames import Said
from .context import plain_fields, shortened
from .output import Captured, Output

_MOST_TEXT = 8192  # characters of a message, or of a traceback
# What every log record has; all else is from the call's ``extra=``.
_OF_ALL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_KEPT = ("name", "levelno", "levelname", "pathname", "lineno", "funcName", "created", "msecs", "thread", "threadName")

# By the method of a structlog logger; of one with another name it is as for ``info``.
_LEVELS = {
    "debug": logging.DEBUG,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "exception": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}


def capture(output: Output, levels: Mapping[str, int]) -> None:
    """Have everything that is said in this process go there from now on.

    Args:
        output: Where it goes.
        levels: Of the parent's loggers, by name; what nobody there asks for isn't even made.
    """
    for name in ("stdout", "stderr"):
        inherited = getattr(sys, name)
        if hasattr(inherited, "buffer"):  # else it is something else's already
            output.streams[name] = captured = Captured(output, name, inherited)
            setattr(sys, name, captured)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().addHandler(_LogHandler(output))
    warnings.showwarning = _Warnings(output)


class _LogHandler(logging.Handler):
    """Takes in what the root logger gets."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Take in a record, its text made here: its arguments may be anything."""
        try:
            own, extra = packed_record(record)
        except Exception:
            self.handleError(record)
            return
        n_chars = sum(len(text) for text in (own["msg"], own["exc_text"], own["stack_info"]) if text)
        self._output.say((Said.LOGGED, self._output.item, own, extra), n_chars)


_formatter = logging.Formatter()


def packed_record(record: logging.LogRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a log record says as built-in values, and apart from it what its call gave as ``extra=``."""
    fields = vars(record)
    own = plain_fields({name: fields.get(name) for name in _KEPT})
    own["levelno"] = int(record.levelno)
    own["msg"] = shortened(record.getMessage(), _MOST_TEXT)
    trace = record.exc_text
    if trace is None and record.exc_info and record.exc_info[0] is not None:
        trace = _formatter.formatException(record.exc_info)
    own["exc_text"] = shortened(trace, _MOST_TEXT) if trace else None
    own["stack_info"] = shortened(record.stack_info, _MOST_TEXT) if record.stack_info else None
    return own, plain_fields({name: value for name, value in fields.items() if name not in _OF_ALL})


class _Warnings:
    """Stands in for `warnings.showwarning`."""

    def __init__(self, output: Output) -> None:
        self._output, self._shown = output, warnings.showwarning

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            self._shown(message, category, filename, lineno, file, line)
            return
        text = safe_text(message) if isinstance(message, Warning) else str(message)
        text = shortened(text, _MOST_TEXT)
        kind = f"{category.__module__}.{category.__qualname__}"
        self._output.say((Said.WARNED, self._output.item, kind, text, shortened(filename), int(lineno)), len(text))


class Source:
    """What structlog writes to in a worker: remembers the name that a logger was asked for by."""

    def __init__(self, *names: Any) -> None:
        self.name = names[0] if names and type(names[0]) is str else None


def capture_structlog(output: Output) -> None:
    """Have structlog's events go there too, if it was imported meanwhile and not configured.

    A configuration by the user's code is left alone: what it prints or hands to logging is captured as such.
    """
    structlog: Any = sys.modules.get("structlog")
    if structlog is None or not hasattr(structlog, "configure") or structlog.is_configured():
        return

    def take_in(logger: Any, method: str, event: Any) -> Any:
        text = shortened(str(event.pop("event", "")), _MOST_TEXT)
        traces = {name: shortened(str(event.pop(name)), _MOST_TEXT) for name in ("exception", "stack") if name in event}
        fields = {**plain_fields(event), **traces}
        n_chars = len(text) + sum(len(value) for value in fields.values() if type(value) is str)
        level = _LEVELS.get(method, logging.INFO)
        output.say((Said.EVENT, output.item, level, logger.name, text, fields), n_chars)
        raise structlog.DropEvent

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            take_in,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=Source,
        cache_logger_on_first_use=False,
    )


def is_structlog_captured() -> bool:
    """Whether structlog, which is configured, is so by us."""
    structlog: Any = sys.modules.get("structlog")
    return structlog is not None and structlog.get_config()["logger_factory"] is Source
