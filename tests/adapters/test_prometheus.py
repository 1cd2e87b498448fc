"""Metrics for Prometheus: what is counted where, and the page that they are on."""

from __future__ import annotations

import gc
import gzip
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.routing import Mount, Route

import offloop
import scripts
import workloads as w
from offloop.adapters import starlette as web
from offloop.events import SessionOverloaded, WorkerOutput
from offloop.sinks.prometheus import describe, install, metrics_app
from offloop.telemetry import emit

from .asgi import get, started

pytestmark = pytest.mark.anyio

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Metrics:
    """A registry of its own, and what stands in it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def __call__(self, name: str, **labels: str) -> float:
        """Return a value as it is scraped now; 0 of a time series that there isn't."""
        return self.values().get((name, frozenset(labels.items())), 0.0)

    def values(self) -> Values:
        """Return all that is scraped now."""
        return values_in(generate_latest(self.registry).decode())


def values_in(text: str, parse: Callable[[str], Any] = text_string_to_metric_families) -> Values:
    """Return all values on a page of metrics."""
    samples = (sample for family in parse(text) for sample in family.samples)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


@pytest.fixture
def metrics() -> Metrics:
    """A registry of its own, with nothing in it."""
    return Metrics()


@pytest.fixture
def installed(metrics: Metrics) -> Iterator[Metrics]:
    """A registry of its own, with offloop's metrics."""
    remove = install(registry=metrics.registry)
    yield metrics
    remove()


# --- what is counted --------------------------------------------------------------------------------------------------


async def test_runs_are_counted(anyio_backend: object, installed: Metrics) -> None:
    """Runs, their items by outcome, their seconds and decisions are counted, whichever session they belong to."""
    for _ in range(2):
        async with offloop.ParallelSession(strategy="serial") as session:
            assert await session.run(w.double, 2) == 4
            await session.run_parallel(w.fail_on_odd, range(10), on_error="collect")
    items = partial(installed, "offloop_items_total", strategy="serial")
    assert (items(outcome="completed"), items(outcome="failed"), items(outcome="cancelled")) == (12, 10, 0)
    assert installed("offloop_run_seconds_count", strategy="serial") == 4
    assert installed("offloop_run_wait_seconds_count", strategy="serial") == 4
    assert installed("offloop_run_wait_seconds_sum", strategy="serial") < installed("offloop_run_seconds_sum", strategy="serial")
    assert installed("offloop_busy_seconds_total", strategy="serial") > 0
    assert installed("offloop_decisions_total", strategy="serial", reason="explicit") == 4


async def test_cancelled_items_are_counted(anyio_backend: object, installed: Metrics, tmp_path: Path) -> None:
    """Items that were stopped count as cancelled."""
    async with offloop.ParallelSession(strategy="serial") as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, w.loop_until_cancelled, str(tmp_path / "it"))
            await w.appears(tmp_path / "it.began")
            tasks.cancel_scope.cancel()
    assert installed("offloop_items_total", strategy="serial", outcome="cancelled") == 1


async def test_what_befalls_workers_is_counted(anyio_backend: object, installed: Metrics, tmp_path: Path) -> None:
    """Starts of workers, crashes by signal, items that run again and items that take too long are counted."""
    async with offloop.ParallelSession(workers=1, strategy="processes") as session:
        assert await session.run(partial(w.die_once, str(tmp_path / "died")), 5) == 10
        with pytest.raises(offloop.WorkerCrashed):
            await session.run(w.die, "SIGSEGV", retries=0)
        with pytest.raises(offloop.ItemTimeout):
            await session.run(w.loop_until_cancelled, str(tmp_path / "loops"), timeout_s=0.05)
    assert installed("offloop_worker_crashes_total", signal="SIGSEGV") == 1
    assert installed("offloop_item_retries_total") == 1
    assert installed("offloop_item_timeouts_total") == 1
    assert installed("offloop_worker_start_seconds_count") == 3
    assert installed("offloop_worker_start_seconds_sum") > 0


async def test_downgrades_are_counted(anyio_backend: object, installed: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """What executes elsewhere than asked for is counted by its reason."""
    monkeypatch.setenv("OFFLOOP_PARALLEL", "off")
    async with offloop.ParallelSession(strategy="processes") as session:
        assert await session.run(w.double, 1) == 2
    assert installed("offloop_fallbacks_total", reason="operator_off") == 1
    assert installed("offloop_decisions_total", strategy="serial", reason="operator_off") == 1


async def test_refusals_are_counted(anyio_backend: object, installed: Metrics, tmp_path: Path) -> None:
    """Refused calls are counted by the limit that they met; as often as the event says."""
    async with offloop.ParallelSession(strategy="serial", max_pending=1) as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, w.loop_until_cancelled, str(tmp_path / "it"))
            await w.appears(tmp_path / "it.began")
            with pytest.raises(offloop.Overloaded):
                await session.run(w.double, 1)
            tasks.cancel_scope.cancel()
    assert installed("offloop_calls_refused_total", limit="max_pending") == 1
    told = {"fn": "f", "why": "deadline", "pending": 1, "limit": 1.0, "retry_after_s": 1.0, "label": None}
    emit(SessionOverloaded(n_refused=5, **told))  # type: ignore[arg-type]
    assert installed("offloop_calls_refused_total", limit="deadline") == 5


async def test_data_that_is_sent_once_is_counted(anyio_backend: object, installed: Metrics) -> None:
    """The bytes bound in a function are counted for each run that took them to workers."""
    async with offloop.ParallelSession(workers=1, strategy="processes") as session:
        await session.run_parallel(partial(w.add, bytes(1_000_000), c=b""), [b"x"])
    assert 1_000_000 <= installed("offloop_bound_bytes_total") < 1_100_000


async def test_functions_are_told_apart_on_demand(anyio_backend: object, metrics: Metrics) -> None:
    """With `by_function` there is a label `fn`, and no more of its values than were allowed."""
    remove = install(registry=metrics.registry, by_function=True, max_functions=2)
    async with offloop.ParallelSession(strategy="serial") as session:
        for fn in (w.double, w.echo, w.niceness, w.double, w.pid_of):
            await (session.run(fn) if fn is w.niceness else session.run(fn, 1))
    counted = partial(metrics, "offloop_items_total", strategy="serial", outcome="completed")
    assert [counted(fn=fn) for fn in ("workloads.double", "workloads.echo", "others")] == [2, 1, 2]
    assert metrics("offloop_run_seconds_count", strategy="serial", fn="workloads.double") == 2
    assert len({dict(labels)["fn"] for _, labels in metrics.values() if "fn" in dict(labels)}) == 3
    remove()


def test_many_threads_count_at_once(installed: Metrics) -> None:
    """Nothing is lost where events come from several threads."""
    told = {"fn": "f", "why": "max_pending", "pending": 1, "limit": 1.0, "retry_after_s": 1.0, "label": None}
    event = SessionOverloaded(n_refused=1, **told)  # type: ignore[arg-type]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: emit(event), range(2_000)))
    assert installed("offloop_calls_refused_total", limit="max_pending") == 2_000


# --- gauges -----------------------------------------------------------------------------------------------------------


async def test_gauges_are_read_when_asked_for(anyio_backend: object, installed: Metrics, tmp_path: Path) -> None:
    """Gauges show what all sessions together do at that moment; a session that is closed is shown no more."""
    async with offloop.ParallelSession(strategy="serial") as one, offloop.ParallelSession(workers=1, strategy="processes") as other:
        async with anyio.create_task_group() as tasks:
            for session, name in ((one, "one"), (other, "other")):
                tasks.start_soon(session.run_parallel, w.loop_until_cancelled, [str(tmp_path / name)] * 3)
                await w.appears(tmp_path / f"{name}.began")
            assert installed("offloop_sessions") == installed("offloop_pending_calls") == 2
            assert installed("offloop_queued_items") == one.statistics().queued + other.statistics().queued >= 2
            assert installed("offloop_workers") == 1
            tasks.cancel_scope.cancel()
        assert installed("offloop_pending_calls") == installed("offloop_queued_items") == 0
        await one.run(w.spin, 0.01)
        assert 0 < installed("offloop_utilisation_ratio") <= 1
        await other.aclose()
        assert (installed("offloop_sessions"), installed("offloop_workers")) == (1, 0)
    assert installed("offloop_sessions") == 0


async def test_what_is_shared_is_shown(anyio_backend: object, installed: Metrics) -> None:
    """The bytes that a session keeps for its workers are shown until they are released."""
    async with offloop.ParallelSession(workers=1, strategy="processes") as session:
        shared = session.share(bytearray(200_000))
        assert await session.run(len, shared) == 200_000
        assert installed("offloop_shared_bytes") >= 200_000
        session.release(shared)
        assert installed("offloop_shared_bytes") == session.statistics().shared_bytes == 0


async def test_sessions_are_not_kept_alive(anyio_backend: object, installed: Metrics) -> None:
    """A session that is dropped is collected, though its gauges were shown."""
    session = offloop.ParallelSession(strategy="serial")
    session.open()
    assert installed("offloop_sessions") == 1
    gone = weakref.ref(session)
    await session.aclose()
    del session
    gc.collect()
    assert gone() is None
    assert installed("offloop_sessions") == 0


def test_all_kinds_of_sessions_are_shown(installed: Metrics) -> None:
    """A `SyncSession` has the same gauges, and so has the process-wide session."""
    with offloop.SyncSession(strategy="serial") as session:
        assert session.run(w.double, 2) == 4
        assert offloop.run_sync(w.double, 2, strategy="serial") == 4
        assert installed("offloop_sessions") == 2
    offloop.close_default_session_sync()
    assert installed("offloop_sessions") == 0


# --- beginning and end ------------------------------------------------------------------------------------------------


async def test_removing_ends_it(anyio_backend: object, metrics: Metrics) -> None:
    """The last of those who installed into a registry takes the metrics out, once; then they can be installed anew."""
    first, second = (install(registry=metrics.registry) for _ in range(2))
    async with offloop.ParallelSession(strategy="serial") as session:
        await session.run(w.double, 1)
        for _ in range(2):
            first()
        await session.run(w.double, 1)
        assert metrics("offloop_items_total", strategy="serial", outcome="completed") == 2
        second()
        assert generate_latest(metrics.registry) == b""
        third = install(registry=metrics.registry)
        await session.run(w.double, 1)
        assert metrics("offloop_items_total", strategy="serial", outcome="completed") == 1
        third()


def test_a_name_that_is_taken_is_an_error(metrics: Metrics) -> None:
    """Where a registry has such a name of somebody else nothing is installed."""
    Gauge("offloop_workers", "Mine.", registry=metrics.registry).set(7)
    with pytest.raises(ValueError, match="Duplicated"):
        install(registry=metrics.registry)
    assert metrics("offloop_workers") == 7
    emit(WorkerOutput(pid=1, item=None, stream="stdout", text="heard by nobody"))


def test_every_metric_is_described(installed: Metrics) -> None:
    """What `describe` returns is what the registry has: names, types, texts; no name says less than its unit."""
    found = {family.name: family for family in installed.registry.collect()}
    assert {one.name.removesuffix("_total"): (one.kind, one.text) for one in describe()} == {
        name: (family.type, family.documentation) for name, family in found.items()
    }
    assert all(one.name.endswith("_total") == (one.kind == "counter") for one in describe())
    assert all(one.name.endswith("_seconds") for one in describe() if one.kind == "histogram")


def recorded_inside(_: Any) -> tuple[int, str]:
    """Install, compute, and return what is in the registry."""
    registry = CollectorRegistry()
    install(registry=registry)
    n_done = len(offloop.run_parallel_sync(w.double, range(3)))
    return n_done, generate_latest(registry).decode()


def test_a_worker_records_nothing() -> None:
    """In a worker process `install` does nothing: its parent hears of everything that happens there."""
    with offloop.SyncSession(workers=1, strategy="processes") as session:
        assert session.run(recorded_inside, 0) == (3, "")


FORKING = """
import os
import offloop
import workloads as w
from prometheus_client import REGISTRY
from offloop.sinks.prometheus import install

def counted():
    return [REGISTRY.get_sample_value(*one) for one in (
        ("offloop_sessions",), ("offloop_items_total", {"strategy": "serial", "outcome": "completed"}))]

session = offloop.SyncSession(strategy="serial").__enter__()
install()
if (child := os.fork()) == 0:
    with offloop.SyncSession(strategy="serial") as own:
        own.run(w.double, 2)
        print(counted(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(counted())
session.__exit__(None, None, None)
"""


def test_a_forked_process_counts_for_itself(tmp_path: Path) -> None:
    """As a web server forks a loaded app: the child counts what it does, and shows none of its parent's sessions."""
    done = scripts.run(FORKING, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[1.0, 1.0]\n[1.0, 0.0]\n", "")


SERVING_BY_SEVERAL = """
import os
import sys
import offloop
import workloads as w
from offloop.sinks.prometheus import install
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

install()
if not (child := os.fork()):
    pass
else:
    os.waitpid(child, 0)
with offloop.SyncSession(strategy="serial") as session:
    session.run_parallel(w.double, range(5))
if child:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    print(generate_latest(registry).decode())
else:
    os._exit(0)
"""


def test_the_processes_of_a_web_server_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the client library's multiprocess mode counters and histograms are of all processes together."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    done = scripts.run(SERVING_BY_SEVERAL, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    values = values_in(done.stdout)
    serial = ("strategy", "serial")
    assert values["offloop_items_total", frozenset({serial, ("outcome", "completed")})] == 10
    assert values["offloop_run_seconds_count", frozenset({serial})] == 2


# --- the page ---------------------------------------------------------------------------------------------------------


class Slow(Collector):
    """A collector that notes the thread that it is asked in."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def collect(self) -> Iterator[Any]:
        self.threads.append(threading.current_thread())
        return iter(())


async def test_a_service_has_a_page(anyio_backend: object, installed: Metrics) -> None:
    """As a route or mounted, the page shows the metrics and the app's own session, put together beside the event loop."""
    slow = Slow()
    installed.registry.register(slow)
    page = metrics_app(installed.registry)
    app = Starlette(routes=[Route("/metrics", page), Mount("/mounted", page)])
    web.install(app, strategy="serial")
    async with started(app) as state:
        await state["offloop"].run(w.double, 1)
        for path in ("/metrics", "/mounted/"):
            found = await get(app, path, state)
            assert (found.status, found.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
            values = values_in(found.content.decode())
            assert values["offloop_sessions", frozenset()] == 1
            assert values["offloop_items_total", frozenset({("strategy", "serial"), ("outcome", "completed")})] == 1
    assert threading.main_thread() not in slow.threads[1:]  # of which the first was to register


async def test_a_page_is_what_was_asked_for(anyio_backend: object, installed: Metrics) -> None:
    """A scrape gets the format that it accepts, compressed if it may be, and of all metrics those that it names."""
    page = metrics_app(installed.registry)
    found = await get(page, "/", {}, headers={"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"})
    assert found.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert found.headers["content-encoding"] == "gzip"
    assert int(found.headers["content-length"]) == len(found.content)
    values = values_in(gzip.decompress(found.content).decode(), openmetrics_families)
    assert values["offloop_worker_start_seconds_count", frozenset()] == 0

    async def asking(scope: Any, receive: Any, send: Any) -> None:
        await page({**scope, "query_string": b"name[]=offloop_workers&name[]=offloop_sessions"}, receive, send)

    named = values_in((await get(asking, "/", {})).content.decode())
    assert {name for name, _ in named} == {"offloop_workers", "offloop_sessions"}
    hostile = await get(page, "/", {}, headers={"Accept": "application/openmetrics-text; version=one"})
    assert hostile.headers["content-type"].startswith("text/plain")
    with pytest.raises(TypeError, match="websocket"):
        await page({"type": "websocket"}, None, None)  # type: ignore[arg-type]
