"""What of a call's context goes to wherever its items execute, and how it is bound there: log fields, and a span."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any, Final

from ..explaining import printable

Context = Mapping[str, Any]  # of exact str, int, float, bool or None; and under `SPAN` a mapping of str

SPAN: Final = "offloop.span"  # where among the fields is what spans are made children by: headers of W3C Trace Context

NO_CONTEXT: Final[Context] = {}

# What request ids, user names and the like need many times over; guesses.
MOST_FIELDS = 64
MOST_CHARS = 8192  # names and texts, all in all
_MOST_NAME = 128
MOST_TEXT = 1024
_MOST_ELEMENTS = 64  # of a container, with those of the containers in it
_LONG = 1 << 63

_SCALARS = frozenset({float, bool, type(None)})
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
_TEXTS = frozenset({str, bytes, bytearray})


def plain_fields(fields: Mapping[Any, Any]) -> dict[str, Any]:
    """Return fields of a log record as they may travel: few and short, and nothing that unpickling could run.

    An exact str, int, float, bool or None stays what it is; of anything else there is the text that a log would show, of
    a large container its type and length. What is too long is cut, and what is too much is left out.
    """
    plain: dict[str, Any] = {}
    left = MOST_CHARS
    for name, value in fields.items():
        if type(name) is not str:
            continue
        kept = _plain(value)
        left -= len(name) + (len(kept) if type(kept) is str else 8)
        if left < 0 or len(plain) >= MOST_FIELDS or len(name) > _MOST_NAME:
            continue
        plain[name] = kept
    return plain


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return shortened(value)
    if kind in _SCALARS or (kind is int and -_LONG < value < _LONG):
        return value
    try:
        if _is_large(value):
            return f"<{kind.__name__} of length {len(value):,}>"
        return printable(shortened(repr(value)))
    except Exception as error:
        return f"<no text: its __repr__ raised {type(error).__name__}>"


def _is_large(value: Any) -> bool:
    """Whether this is a built-in container whose text would take long to make, and be cut in the end."""
    rest: list[Any] = [value]
    n_elements = n_chars = 0
    while rest:
        one = rest.pop()
        kind = type(one)
        if kind in _TEXTS:
            n_chars += len(one)
        elif kind in _CONTAINERS:
            n_elements += len(one)
        if n_elements > _MOST_ELEMENTS or n_chars > MOST_CHARS:
            return True
        if kind in _CONTAINERS:
            rest += [*one, *one.values()] if kind is dict else one
    return False


def shortened(text: str, most: int = MOST_TEXT) -> str:
    """Return text that is not longer than this, give or take the note that says so."""
    text = str.__str__(text)  # not what is derived from it: that would travel with its class
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


def bound() -> dict[str, Any]:
    """Return what is bound to structlog's context in this thread or task: 0.2 µs where that is nothing."""
    structlog = sys.modules.get("structlog")
    contextvars = getattr(structlog, "contextvars", None)  # not while it is still being imported
    return contextvars.get_contextvars() if contextvars is not None else {}


def bind(context: Context) -> None:
    """Make this what is bound to structlog's context in this thread, and nothing else, and its span OpenTelemetry's current one.

    Either is imported only for something.
    """
    if not context and not bound() and _entered.outer is None:
        return
    headers = context.get(SPAN)
    if headers is not None or _entered.outer is not None:
        _enter(headers)
    fields = {name: value for name, value in context.items() if name != SPAN} if headers is not None else context
    if not fields and not bound():
        return
    from structlog import contextvars

    contextvars.clear_contextvars()
    contextvars.bind_contextvars(**fields)


def current_span() -> dict[str, str]:
    """Return what spans of runs that an item starts are made children by: the current span; empty where there is none."""
    propagation = sys.modules.get("opentelemetry.trace.propagation.tracecontext")  # imported as a span was bound
    carrier: dict[str, str] = {}
    if propagation is not None:
        propagation.TraceContextTextMapPropagator().inject(carrier)
    return carrier


class _Entered(threading.local):
    outer: Any = None  # OpenTelemetry's context as it was before an item's span; None where no span is entered


_entered = _Entered()


def _enter(headers: Mapping[str, str] | None) -> None:
    """Make a span of another process the current one in this thread; None: have it again as it was before.

    Nothing is done where OpenTelemetry can't be had: that is no reason to fail items.
    """
    try:
        from opentelemetry import context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Attached again, not detached by a token: an item may have attached what it has not detached. In this order, since an
        # interrupt may come late: what is noted of it is then put right by the next that is bound.
        if headers is None:
            context.attach(_entered.outer)
            _entered.outer = None
        else:
            _entered.outer = context.get_current() if _entered.outer is None else _entered.outer
            context.attach(TraceContextTextMapPropagator().extract(headers, _entered.outer))
    except Exception:
        return
