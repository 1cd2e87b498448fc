"""OpenTelemetry: spans of runs, of their chunks and of what items do; events counted; nothing where nobody asked for it."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import structlog
from opentelemetry import context as otel
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider, StatusCode, get_current_span, set_span_in_context

import offloop
import workloads as w
from offloop import tracing
from offloop.sinks.opentelemetry import install

from . import otel_tasks as tasks

pytestmark = pytest.mark.anyio

STRATEGIES = ("serial", "threads", "processes")


@pytest.fixture(scope="module")
async def session(anyio_backend: object) -> AsyncIterator[offloop.ParallelSession]:
    """A session that a module's tests share."""
    async with offloop.ParallelSession(workers=2, worker_init=tasks.make_tracer) as opened:
        for strategy in STRATEGIES:
            await w.start_all(opened, strategy)
        yield opened


class Trace:
    """Where spans go, and what makes the caller's own."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("the caller")

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans of this name that have ended."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def the(self, name: str) -> ReadableSpan:
        """Return the one span of this name."""
        (span,) = self.named(name)
        return span


@pytest.fixture
def trace() -> Iterator[Trace]:
    """What runs are traced by, for the time of a test."""
    made = Trace()
    remove = install(made.provider, NoOpMeterProvider())
    yield made
    remove()


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("offloop."): value for name, value in (span.attributes or {}).items()}


# --- who is whose child -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_run_stands_between_caller_and_items(
    session: offloop.ParallelSession, trace: Trace, strategy: Any
) -> None:
    """The caller's span is the run's parent, and the run's span is the current one wherever its items execute, and only there."""
    with trace.tracer.start_as_current_span("caller") as caller:
        of_call = await session.run(tasks.span_of, strategy=strategy)
        of_items = await session.run_parallel(tasks.span_of, range(6), strategy=strategy, chunk_size=3)
        assert get_current_span() is caller
    for name, found in (("offloop.run", {of_call}), ("offloop.run_parallel", set(of_items))):
        span = trace.the(name)
        assert parent_of(span) == caller.get_span_context().span_id
        assert found == {(caller.get_span_context().trace_id, id_of(span), True)}
    assert await session.run(tasks.span_of, strategy=strategy) == (*_ids(trace.named("offloop.run")[1]), True)
    assert not get_current_span().get_span_context().is_valid


def _ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_spans_of_items_are_children(
    session: offloop.ParallelSession, trace: Trace, strategy: Any
) -> None:
    """What fn makes by a provider of the process that executes it is the run's child."""
    made = await session.run_parallel(tasks.own_span, range(4), strategy=strategy)
    assert set(made) == {_ids(trace.the("offloop.run_parallel"))}


async def test_callers_have_their_own_spans(session: offloop.ParallelSession, trace: Trace) -> None:
    """Side by side on the same workers, every item sees the span of its own caller's run."""

    async def call(number: int) -> None:
        with trace.tracer.start_as_current_span(f"caller {number}") as caller:
            own = caller.get_span_context().trace_id
            for strategy in ("serial", "processes"):
                assert (await session.run(tasks.span_of, strategy=strategy))[0] == own
                many = await session.run_parallel(tasks.span_of, range(6), chunk_size=1, strategy=strategy)
                assert {found[0] for found in many} == {own}
            assert get_current_span() is caller

    await w.gather(*(call(number) for number in range(6)))


async def test_each_chunk_has_a_span(session: offloop.ParallelSession, trace: Trace) -> None:
    """A map's chunks are its span's children, and cover its items once; a single call has none."""
    pids = await session.run_parallel(tasks.nap_and_tell, range(10), chunk_size=4, strategy="processes")
    await session.run(tasks.nap_and_tell, strategy="processes")
    run, chunks = trace.the("offloop.run_parallel"), trace.named("offloop.chunk")
    found = sorted(map(attributes_of, chunks), key=lambda told: told["start"])
    assert found == [
        {"start": start, "n_items": n_items, "strategy": "processes", "worker.pid": pids[start]}
        for start, n_items in ((0, 4), (4, 4), (8, 2))
    ]
    assert {parent_of(chunk) for chunk in chunks} == {id_of(run)}
    assert attributes_of(trace.the("offloop.run"))["worker.pid"] in {*session.statistics().workers}


async def test_every_entrance_has_its_name(session: offloop.ParallelSession, trace: Trace) -> None:
    """Streams, batches and units are named as they are called, and a stream's span ends with it."""
    async with session.stream(w.double, range(5), strategy="serial") as results:
        assert [result async for result in results] == [0, 2, 4, 6, 8]
    await session.run_batches(w.double, np.arange(10), strategy="serial", batch_size=5)
    await session.run_branches({"a": offloop.call(w.double, 1), "b": offloop.call(w.double, 2)}, strategy="serial")
    branches = trace.the("offloop.run_branches")
    assert {parent_of(unit) for unit in trace.named("offloop.unit")} == {id_of(branches)}
    assert sorted(str((event.attributes or {})["branch"]) for event in branches.events) == ["a", "b"]
    names = [span.name for span in trace.exporter.get_finished_spans() if span.name != "offloop.chunk"]
    assert names[:2] == ["offloop.stream", "offloop.run_batches"]
    assert names.count("offloop.unit") == 2
    assert attributes_of(trace.the("offloop.stream"))["tasks_completed"] == 5


async def test_a_stream_that_is_left_ends_its_span(session: offloop.ParallelSession, trace: Trace) -> None:
    """An endless stream's span ends as its consumer leaves, marked as cancelled, and the consumer's own span is the current one."""
    with trace.tracer.start_as_current_span("caller") as caller:
        async with session.stream(w.double, iter(int, 1), strategy="serial") as results:
            assert await anext(results) == 0
            assert get_current_span() is caller
            assert trace.named("offloop.stream") == []
    span = trace.the("offloop.stream")
    assert parent_of(span) == caller.get_span_context().span_id
    assert attributes_of(span)["cancelled"]


@pytest.mark.parametrize("strategy", ["serial", "processes"])
async def test_what_items_start_is_in_the_same_trace(session: offloop.ParallelSession, trace: Trace, strategy: Any) -> None:
    """A run that an item makes goes on with the item's trace, also in a worker, where nobody makes spans of runs."""
    (outer, inner), *_ = await session.run_parallel(tasks.span_of_a_call_from_here, [0], strategy=strategy)
    assert outer == (*_ids(trace.the("offloop.run_parallel")), True)
    if strategy == "processes":
        assert inner == outer
    else:
        assert inner == (*_ids(trace.the("offloop.run")), True)
        assert parent_of(trace.the("offloop.run")) == outer[1]
    await offloop.close_default_session()


def test_calls_without_a_loop_have_their_callers_span(trace: Trace) -> None:
    """From a thread without an event loop, and from an item in one, the caller's span is the parent too."""
    found: list[Any] = []

    def call() -> None:
        with trace.tracer.start_as_current_span("caller"):
            found.extend(offloop.run_sync(tasks.span_of_a_call_from_here, strategy="serial"))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    offloop.close_default_session_sync()
    outer, inner = found
    below, above = trace.named("offloop.run")
    assert (outer[1], inner[1]) == (id_of(above), id_of(below))
    assert (parent_of(below), parent_of(above)) == (id_of(above), id_of(trace.the("caller")))


# --- what they tell ------------------------------------------------------------------------------------------------------


async def test_spans_tell_of_the_decision_and_the_end(session: offloop.ParallelSession, trace: Trace) -> None:
    """A run's attributes are the fields of its events, under their names."""
    await session.run_parallel(w.double, range(5), strategy="threads", thread_safe=True, label="nightly\n")
    told = attributes_of(trace.the("offloop.run_parallel"))
    assert told["code.function.name"] == "workloads.double"
    assert told["label"] == "nightly\\n"
    assert (told["strategy"], told["reason"], told["n_items"], told["tasks_completed"]) == ("threads", "explicit", 5, 5)
    assert 0 <= told["wait_s"] < 60
    assert "cancelled" not in told


@pytest.mark.parametrize(("on_error", "expected"), [("raise", "workloads.OwnError"), ("group", "ExceptionGroup")])
async def test_failures_are_errors_without_their_text(
    session: offloop.ParallelSession, trace: Trace, on_error: Any, expected: str
) -> None:
    """A run that raises has the status error and the error's type, and nothing of its text, which may be anybody's data."""
    with pytest.raises((w.OwnError, ExceptionGroup)):
        await session.run_parallel(w.fail_on_3, range(5), on_error=on_error, strategy="serial")
    await session.run_parallel(w.fail_on_3, range(5), on_error="collect", strategy="serial")
    failed, collected = trace.named("offloop.run_parallel")
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, expected)
    assert attributes_of(failed)["error.type"] == expected
    assert "please" not in failed.to_json()
    assert collected.status.status_code is StatusCode.UNSET
    assert attributes_of(collected)["tasks_failed"] == 1


async def test_a_call_that_is_too_late_is_an_error(session: offloop.ParallelSession, trace: Trace, tmp_path: Path) -> None:
    """A call that gets no lane in time has a span that says so."""
    path = str(tmp_path / "file")
    async with anyio.create_task_group() as group:
        group.start_soon(partial(session.run, w.wait_for_file, path, strategy="serial"))
        await w.appears(f"{path}.began")
        with pytest.raises(offloop.Overloaded):
            await session.run(w.double, 1, strategy="serial", max_wait_s=0.01)
        Path(f"{path}.go").touch()
    refused, _ = trace.named("offloop.run")
    assert attributes_of(refused)["error.type"] == "offloop.Overloaded"


async def test_a_cancelled_run_is_no_error(session: offloop.ParallelSession, trace: Trace, tmp_path: Path) -> None:
    """A run that its caller cancels is marked, and its status stays unset."""
    path = str(tmp_path / "began")
    async with anyio.create_task_group() as group:
        group.start_soon(partial(session.run, w.loop_until_cancelled, path, strategy="processes"))
        await w.appears(f"{path}.began")
        group.cancel_scope.cancel()
    span = trace.the("offloop.run")
    assert attributes_of(span)["cancelled"] is True
    assert span.status.status_code is StatusCode.UNSET
    assert not get_current_span().get_span_context().is_valid


async def test_what_happens_is_on_the_span(trace: Trace, tmp_path: Path) -> None:
    """A worker's death, the retry and a timeout are events of the run's span."""
    async with offloop.ParallelSession(workers=1, strategy="processes") as session:
        await session.run_parallel(partial(w.die_once, str(tmp_path / "died")), range(8))
        with pytest.raises(offloop.ItemTimeout):
            await session.run(w.sleep, 30.0, timeout_s=0.05)
    crashed = {event.name: dict(event.attributes or {}) for event in trace.the("offloop.run_parallel").events}
    assert crashed["worker.crashed"]["signal"] == "SIGKILL"
    assert crashed["item.retried"]["item"] == 5
    late = trace.the("offloop.run")
    assert [event.name for event in late.events] == ["item.timed_out"]
    assert attributes_of(late)["error.type"] == "offloop.ItemTimeout"


# --- where nobody asked for it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_no_span_stays_with_a_worker(session: offloop.ParallelSession, trace: Trace, strategy: Any) -> None:
    """What one call's items have as their span, or leave as it, is gone when the next call comes."""
    await session.run_parallel(tasks.attach_and_leave, range(4), strategy=strategy)
    assert await session.run(tasks.span_of, strategy=strategy) == (*_ids(trace.the("offloop.run")), True)
    remove = install(NoOpTracerProvider(), NoOpMeterProvider())
    assert await session.run(tasks.span_of, strategy=strategy) == (0, 0, False)
    assert set(await session.run_parallel(tasks.span_of, range(4), strategy=strategy)) == {(0, 0, False)}
    remove()


async def test_log_fields_travel_beside_a_span(session: offloop.ParallelSession, trace: Trace) -> None:
    """Items have both the span and what the caller has bound to structlog's context, and the span is none of the fields."""
    for strategy in ("serial", "processes"):
        with structlog.contextvars.bound_contextvars(request_id="r-1"):
            _, fields = await session.run(tasks.spans_and_fields, strategy=strategy)
        found, bare = await session.run(tasks.spans_and_fields, strategy=strategy)
        assert fields == {"request_id": "r-1"}
        assert bare == {}
        assert found == _ids(trace.exporter.get_finished_spans()[-1])[0]


async def test_nothing_is_imported_for_nobody() -> None:
    """A worker imports nothing of OpenTelemetry where nothing is installed, nor where no provider makes spans."""
    async with offloop.ParallelSession(workers=1, strategy="processes") as session:
        assert not await session.run(tasks.has_opentelemetry)
        remove = install(NoOpTracerProvider(), NoOpMeterProvider())
        assert not await session.run(tasks.has_opentelemetry)
        assert not any(await session.run_parallel(w.double, [0]))
        remove()


async def test_a_callers_span_goes_through_where_none_is_made(session: offloop.ParallelSession, trace: Trace) -> None:
    """Where offloop's own tracer makes none, items have the caller's span."""
    with trace.tracer.start_as_current_span("caller") as caller:
        remove = install(NoOpTracerProvider(), NoOpMeterProvider())
        found = await session.run(tasks.span_of, strategy="processes")
        remove()
    assert found == (caller.get_span_context().trace_id, caller.get_span_context().span_id, True)


async def test_what_is_not_sampled_costs_no_spans(session: offloop.ParallelSession) -> None:
    """A run that isn't sampled has no chunk spans, and its items know that they aren't."""
    started, provider = Started(), TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(started)
    remove = install(provider, NoOpMeterProvider())
    await session.run_parallel(tasks.nap_and_tell, range(4), chunk_size=2, strategy="processes")
    found = await session.run_parallel(tasks.span_of, range(4), strategy="processes")
    remove()
    assert started.names == []
    ((trace_id, _, is_sampled),) = set(found)
    assert trace_id
    assert not is_sampled


async def test_chunks_can_be_left_out(session: offloop.ParallelSession, trace: Trace) -> None:
    """`chunks=False` leaves a run's own span alone; installing again takes the place of what was installed."""
    remove = install(trace.provider, NoOpMeterProvider(), chunks=False)
    await session.run_parallel(tasks.nap_and_tell, range(4), chunk_size=2)
    remove()
    remove()
    await session.run_parallel(tasks.nap_and_tell, range(4), chunk_size=2)
    assert [span.name for span in trace.exporter.get_finished_spans()] == ["offloop.run_parallel"]


class Started(SpanProcessor):
    """Hears of spans that begin, and fails if it is to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.names: list[str] = []
        self._failure = failure

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.names.append(span.name)
        if self._failure is not None:
            raise self._failure


async def test_a_provider_that_fails_changes_no_result(
    session: offloop.ParallelSession, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What making a span raises is logged, once, and the run goes on without one."""
    monkeypatch.setattr(tracing, "_has_failed", False)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Started(w.OwnError("no spans")))
    remove = install(provider, NoOpMeterProvider())
    for _ in range(2):
        assert len(await session.run_parallel(tasks.nap_and_tell, range(4), chunk_size=2)) == 4
    remove()
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == "offloop"


def test_a_run_of_another_context_leaves_that_alone(trace: Trace) -> None:
    """A run that ends elsewhere, since its event loop is gone, ends its span and changes no context."""
    begin: Callable[[str, str, None], Any] = tracing._tracer.begin  # type: ignore[union-attr]
    run = contextvars.copy_context().run(begin, "run", "fn", None)
    mine = trace.tracer.start_span("mine")
    token = otel.attach(set_span_in_context(mine))
    assert tracing._tracer is not None
    tracing._tracer.end(run, GeneratorExit)
    assert get_current_span() is mine
    otel.detach(token)
    assert attributes_of(trace.the("offloop.run"))["cancelled"]


# --- metrics ------------------------------------------------------------------------------------------------------------


async def test_runs_and_items_are_counted(session: offloop.ParallelSession) -> None:
    """The meter has runs and items by outcome, and how long runs took and waited."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    remove = install(NoOpTracerProvider(), meters)
    await session.run_parallel(w.fail_on_3, range(5), on_error="collect", strategy="serial")
    await session.run(w.double, 1, strategy="serial")
    remove()
    await session.run(w.double, 1, strategy="serial")
    found = {
        (metric.name, (point.attributes or {}).get("offloop.outcome")): point
        for resource in reader.get_metrics_data().resource_metrics  # type: ignore[union-attr]
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    counts = {key: point.count if isinstance(point, HistogramDataPoint) else point.value for key, point in found.items()}
    assert counts["offloop.items", "completed"] == 5
    assert counts["offloop.items", "failed"] == 1
    assert (counts["offloop.run.duration", "failed"], counts["offloop.run.duration", "completed"]) == (1, 1)
    assert counts["offloop.run.wait", None] == 2
    assert found["offloop.run.wait", None].explicit_bounds[0] == 0.0001
    assert not {name for name, _ in counts} - {"offloop.items", "offloop.run.duration", "offloop.run.wait"}
    meters.shutdown()
