"""Telling sinks what happens; a sink that raises never changes a result."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict

from .events import Event

_log = logging.getLogger("offloop")


def emit(event: Event) -> None:
    """Hand an event to structlog where the application has configured it, else warnings to stdlib logging."""
    try:
        _sink(event)
    except Exception:
        _log.exception("a log sink failed on %s", event.event)


def is_heard(level: int) -> bool:
    """Whether an event of this level goes anywhere, so that it is worth making."""
    return level >= logging.WARNING or ("structlog" in sys.modules and _structlog_is_configured())


def _structlog_is_configured() -> bool:
    structlog = sys.modules.get("structlog")
    return structlog is not None and bool(structlog.is_configured())


def _sink(event: Event) -> None:
    fields = asdict(event)
    if _structlog_is_configured():
        import structlog

        structlog.get_logger("offloop").log(event.level, event.event, **fields)
    elif event.level >= logging.WARNING:
        _log.log(event.level, "%s %s", event.event, " ".join(f"{name}={value!r}" for name, value in fields.items()))
