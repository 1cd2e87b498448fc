"""The program of `overhead`: the same work watched and unwatched by turns, in one process; prints its times as JSON."""

import io
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import anyio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry

import offloop
from offloop.sinks import opentelemetry, prometheus
from offloop.sinks.progress import renderer

WARM_UPS = 3


class Nowhere(SpanExporter):
    """Takes spans and drops them, so that what is measured is making them."""

    def export(self, spans: Any) -> SpanExportResult:
        """Drop them."""
        return SpanExportResult.SUCCESS


class Terminal(io.StringIO):
    """Looks like a terminal."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        """Say so."""
        return True


def identity(item: Any) -> Any:
    """Take 0.1 µs."""
    return item


def spin(seconds: float) -> None:
    """Hold a core for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


WORKS: dict[str, Callable[..., Any]] = {
    "tiny": lambda session, **options: session.run_parallel(identity, range(100_000), **options),
    "tiny_processes": lambda session, **options: session.run_parallel(
        identity, range(100_000), strategy="processes", **options
    ),
    "short_items": lambda session, **options: session.run_parallel(
        spin, [50e-6] * 4_000, strategy="processes", **options
    ),
    "long_items": lambda session, **options: session.run_parallel(spin, [5e-3] * 40, strategy="processes", **options),
    "calls": lambda session, **options: _calls(partial(session.run, spin, 2e-3, strategy="processes", **options), 50),
    "empty_calls": lambda session, **options: _calls(partial(session.run, identity, 1, strategy="processes", **options), 500),
}


async def _calls(call: Callable[[], Any], count: int) -> None:
    for _ in range(count):
        await call()


@contextmanager
def metered() -> Iterator[dict[str, Any]]:
    """Record for Prometheus."""
    remove = prometheus.install(registry=CollectorRegistry())
    try:
        yield {}
    finally:
        remove()


@contextmanager
def spanned(provider: TracerProvider, meters: MeterProvider) -> Iterator[dict[str, Any]]:
    """Make spans, and record for OpenTelemetry."""
    remove = opentelemetry.install(tracer_provider=provider, meter_provider=meters)
    try:
        yield {}
    finally:
        remove()


def watchers() -> dict[str, Callable[[], AbstractContextManager[dict[str, Any]]]]:
    """Return, by name, what may watch: contexts that yield options of the call."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    meters = MeterProvider([InMemoryMetricReader()])
    return {
        "function": lambda: nullcontext({"progress": lambda event: None}),
        "text": lambda: nullcontext({"progress": renderer("text", Terminal())}),
        "prometheus": metered,
        "opentelemetry": partial(spanned, provider, meters),
        "nobody": lambda: nullcontext({}),
    }


async def measure(work: str, watcher: str, turns: int, workers: int, seed: int) -> list[tuple[float, float]]:
    """Return the seconds of each turn, watched and unwatched, in an order by chance."""
    chance, do = random.Random(seed), WORKS[work]
    contexts = watchers()
    found: list[tuple[float, float]] = []
    async with offloop.ParallelSession(workers=workers) as session:
        await session.warm()
        for turn in range(turns + WARM_UPS):
            times = {}
            for name in chance.sample((watcher, "nobody"), 2):
                with contexts[name]() as options:
                    begun = time.perf_counter()
                    await do(session, **options)
                    times[name] = time.perf_counter() - begun
            if turn >= WARM_UPS:
                found.append((times[watcher], times["nobody"]))
    return found


if __name__ == "__main__":
    work, watcher, *numbers = sys.argv[1:]
    print(json.dumps(anyio.run(measure, work, watcher, *map(int, numbers))))
