"""Work that looks at its span and makes others; light, since workers import it."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import offloop


def span_of(_: Any = None) -> tuple[int, int, bool]:
    """Return the current span's trace and id, zeros where there is none, and whether it is sampled."""
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    return context.trace_id, context.span_id, context.trace_flags.sampled


def nap_and_tell(_: Any = None) -> int:
    """Take long enough that a chunk of two has a span, and return the id of this process."""
    time.sleep(0.003)
    return os.getpid()


def attach_and_leave(_: Any = None) -> None:
    """Make another span the current one, and leave it like that."""
    from opentelemetry import context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

    context.attach(set_span_in_context(NonRecordingSpan(SpanContext(7, 7, is_remote=False))))


def spans_and_fields(_: Any = None) -> tuple[int, dict[str, Any]]:
    """Return the current span's trace, and what is bound to structlog's context."""
    import structlog

    return span_of()[0], structlog.contextvars.get_contextvars()


def has_opentelemetry() -> bool:
    """Whether this process has imported OpenTelemetry."""
    return "opentelemetry" in sys.modules


def make_tracer() -> Any:
    """Make what this process makes spans by; a worker_init."""
    from opentelemetry.sdk.trace import TracerProvider

    return TracerProvider(shutdown_on_exit=False).get_tracer("of a worker")


def own_span(_: Any = None) -> tuple[int, int]:
    """Make a span by this process's own tracer, and return its trace and its parent."""
    with offloop.worker_state().start_as_current_span("own") as span:
        return span.context.trace_id, span.parent.span_id


def span_of_a_call_from_here(_: Any = None) -> tuple[tuple[int, int, bool], tuple[int, int, bool]]:
    """Return the current span, and that which a call made from here has."""
    return span_of(), offloop.run_sync(span_of, strategy="serial")
