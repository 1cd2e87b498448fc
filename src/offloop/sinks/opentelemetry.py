"""Spans and metrics by OpenTelemetry: a span for each run and each of its chunks, with the caller's as parent.

    caller's span ──► offloop.run_parallel ──► offloop.chunk, one for each chunk
                               └─────────────► spans that fn makes where its items execute, by W3C Trace Context
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from time import time_ns
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider, get_meter
from opentelemetry.trace import Span, Status, StatusCode, TracerProvider, get_tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import __version__, add_sink
from ..events import (
    Event,
    ItemAbandoned,
    ItemRetried,
    ItemTimedOut,
    RunDecided,
    RunFellBack,
    RunFinished,
    SessionOverloaded,
    UnitFinished,
    WorkerDied,
    WorkerKilled,
    WorkerRetired,
    WorkerStarted,
)
from ..explaining import printable
from ..tracing import use_tracer

# What spans say of a run, by the names of the events' fields. What is None, or of `_RARE` zero, is left out: each costs a microsecond.
_DECIDED = ("strategy", "reason", "n_items", "workers", "chunk_size", "estimated_s", "hint")
_FINISHED = ("tasks_completed", "wait_s", "busy_s", "worker_utilisation_pct")
_RARE = ("tasks_failed", "tasks_cancelled", "tasks_retried")

_LEAST_S = 0.005  # of a chunk that has a span: to make one takes 25 to 60 µs, and most chunks take 10 to 20 ms

# Events of a span, besides that it moves elsewhere.
_NOTABLE = (
    *(ItemAbandoned, ItemRetried, ItemTimedOut, RunFellBack, SessionOverloaded),
    *(UnitFinished, WorkerDied, WorkerKilled, WorkerRetired, WorkerStarted),
)

# Seconds, from a call in the local thread to a long run; OpenTelemetry's own boundaries are made for milliseconds.
_BOUNDARIES: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)


def install(
    tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None, *, chunks: bool = True
) -> Callable[[], None]:
    """Have runs that begin from now on make spans, and all events be counted.

    A run's span is the current one while it is under way, and goes with its items to wherever they execute: spans that fn
    makes there, by a provider of that process's own (`worker_init` may set one), are its children. What a provider raises
    never changes a result. Where no provider is set, nothing is made; where a span isn't sampled, nothing but its context travels.

    Args:
        tracer_provider: Makes the spans; None: the global one, also one that is set later.
        meter_provider: Makes the instruments; None: likewise.
        chunks: Whether there is a span for each chunk of a run that took 5 ms or more, beside that of the run.

    Returns:
        A function that ends this: runs under way still end their spans. It may be called more than once. Installing again
        takes the place of what was installed before.
    """
    global _remove
    _remove()
    tracer = get_tracer("offloop", __version__, tracer_provider)
    spans = _Spans(tracer, has_chunks=chunks)
    ends = [use_tracer(spans), add_sink(spans.note), add_sink(_Counts(get_meter("offloop", __version__, meter_provider)))]

    def remove() -> None:
        for end in ends:
            end()

    _remove = remove
    return remove


def _nothing() -> None:
    pass


_remove: Callable[[], None] = _nothing  # what is installed


class _Run:
    """A run under way.

    Attributes:
        span: Its span.
        context: OpenTelemetry's, with that span in it.
        outer: Likewise, as it was before.
        outer_run: The run to which whoever has started this one belongs.
        is_single: Whether it is one call, which has no chunks.
        strategy: Where it executes, as last decided; empty before that.
    """

    __slots__ = ("context", "is_single", "outer", "outer_run", "span", "strategy")

    def __init__(self, span: Span, outer: Context, *, is_single: bool) -> None:
        self.span, self.outer, self.outer_run, self.is_single = span, outer, _run.get(), is_single
        self.context = set_span_in_context(span, outer)
        self.strategy = ""


# Of the task that executes the run, and of those that it has started.
_run: ContextVar[_Run | None] = ContextVar("offloop_run", default=None)


class _Spans:
    """Makes spans, as `Tracer` has it, and notes on them what happens."""

    def __init__(self, tracer: Any, *, has_chunks: bool) -> None:
        self._tracer, self._has_chunks = tracer, has_chunks

    def begin(self, entrance: str, fn: str, label: str | None) -> _Run | None:
        attributes = {"code.function.name": fn}
        if label is not None:
            attributes["offloop.label"] = printable(label)
        outer = otel.get_current()
        span = self._tracer.start_span(f"offloop.{entrance}", outer, attributes=attributes)
        if not span.get_span_context().is_valid:  # nobody makes spans
            return None
        run = _Run(span, outer, is_single=entrance in ("run", "unit"))
        otel.attach(run.context)
        _run.set(run)
        return run

    def end(self, run: _Run | None, error: type[BaseException] | None) -> None:
        if run is None:
            return
        if _run.get() is run:  # not by tokens: a run whose event loop was closed ends in another context, and leaves that alone
            otel.attach(run.outer)
            _run.set(run.outer_run)
        if error is not None:
            name = _type_name(error)
            if issubclass(error, Exception):
                run.span.set_attribute("error.type", name)
                run.span.set_status(Status(StatusCode.ERROR, name))  # not its text, which may tell of the data
            else:
                run.span.set_attribute("offloop.cancelled", True)
        run.span.end()

    def chunk(self, start: int, n_items: int, seconds: float, is_remote: bool, pid: int | None) -> None:
        run = _run.get()
        if run is None or not run.span.is_recording():
            return
        worker = {} if pid is None else {"offloop.worker.pid": pid}
        if run.is_single:
            run.span.set_attributes(worker)
        elif self._has_chunks and seconds >= _LEAST_S:
            here = "threads" if run.strategy == "threads" else "serial"
            strategy = "processes" if is_remote else here
            attributes = {"offloop.start": start, "offloop.n_items": n_items, "offloop.strategy": strategy, **worker}
            ends_ns = time_ns()
            begins_ns = ends_ns - int(seconds * 1e9)
            chunk = self._tracer.start_span("offloop.chunk", run.context, attributes=attributes, start_time=begins_ns)
            chunk.end(ends_ns)

    def carrier(self) -> Mapping[str, str]:
        run, carrier = _run.get(), dict[str, str]()
        if run is not None:
            TraceContextTextMapPropagator().inject(carrier, run.context)
        return carrier

    def note(self, event: Event) -> None:
        """Note on the run's span what happens to it."""
        run = _run.get()
        if run is None or not run.span.is_recording():
            return
        if isinstance(event, RunDecided):
            if run.strategy:  # it moves
                run.span.add_event(event.event, _attributes(event, _DECIDED, ""))
            run.strategy = event.strategy
            run.span.set_attributes(_attributes(event, _DECIDED))
        elif isinstance(event, RunFinished):
            rare = {f"offloop.{name}": count for name in _RARE if (count := getattr(event, name))}
            run.span.set_attributes(_attributes(event, _FINISHED) | rare)
        elif isinstance(event, _NOTABLE):
            run.span.add_event(event.event, _attributes(event, event.as_dict(), ""))


def _attributes(event: Event, names: Iterable[str], prefix: str = "offloop.") -> dict[str, Any]:
    """Return fields of an event as attributes; None is none."""
    return {f"{prefix}{name}": value for name in names if (value := getattr(event, name)) is not None}


def _type_name(kind: type[BaseException]) -> str:
    return printable(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.").replace("offloop.errors.", "offloop."))


class _Counts:
    """Counts what events tell; a sink."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, text: str) -> Histogram:
            return meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=_BOUNDARIES)

        # No more of what is measured at each run: each takes about as long as a tenth of a call.
        self._duration = histogram("offloop.run.duration", "How long runs took; how many there were is its count.")
        self._wait = histogram("offloop.run.wait", "How long runs waited for their first item to begin.")
        self._items = meter.create_counter("offloop.items", "{item}", "Items of runs that are over.")
        self._happened: dict[type[Event], Counter] = {
            kind: meter.create_counter(f"offloop.{kind.event}", unit, text)
            for kind, unit, text in (
                (RunFellBack, "{fallback}", "Times that something executed elsewhere than asked for or planned."),
                (ItemRetried, "{item}", "Items that ran again because their worker died."),
                (ItemTimedOut, "{item}", "Items that executed for longer than they may."),
                (ItemAbandoned, "{item}", "Items in a thread that did not stop."),
                (WorkerStarted, "{worker}", "Worker processes that were started."),
                (WorkerDied, "{worker}", "Worker processes that died under work."),
                (WorkerKilled, "{worker}", "Worker processes that were killed."),
                (WorkerRetired, "{worker}", "Worker processes that were replaced in good order."),
                (SessionOverloaded, "{call}", "Calls that were refused."),
            )
        }

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._finished(event)
        elif isinstance(event, SessionOverloaded):
            self._happened[SessionOverloaded].add(event.n_refused, {"offloop.why": event.why})
        elif isinstance(event, RunFellBack):
            self._happened[RunFellBack].add(1, {"offloop.reason": event.reason})
        elif (counter := self._happened.get(type(event))) is not None:
            counter.add(1)

    def _finished(self, event: RunFinished) -> None:
        where = {"offloop.strategy": event.strategy}
        outcomes = {"failed": event.tasks_failed, "cancelled": event.tasks_cancelled, "completed": event.tasks_completed}
        for name, count in outcomes.items():
            if count:
                self._items.add(count, {**where, "offloop.outcome": name})
        outcome = next((name for name, count in outcomes.items() if count), "completed")
        self._duration.record(event.wall_s, {**where, "offloop.outcome": outcome})
        self._wait.record(event.wait_s, where)
