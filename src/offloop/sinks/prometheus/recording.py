"""Counting what happens, in a registry of Prometheus's client library."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ... import Event, Strategy, add_sink, in_worker
from ...events import (
    ItemAbandoned,
    ItemRetried,
    ItemTimedOut,
    RunDecided,
    RunFellBack,
    RunFinished,
    SessionOverloaded,
    WorkerDied,
    WorkerKilled,
    WorkerRetired,
    WorkerStarted,
)
from ...forking import in_forked_child
from .described import (
    ABANDONED,
    BOUND,
    BUSY,
    CRASHES,
    DECISIONS,
    FALLBACKS,
    GAUGES,
    ITEMS,
    KILLS,
    RECORDED,
    REFUSED,
    RETIRED,
    RETRIES,
    RUN,
    START,
    TIMEOUTS,
    WAIT,
    Description,
)
from .gauges import gauges

OTHERS = "others"  # the functions beyond the most that are told apart

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def install(
    *, registry: CollectorRegistry = REGISTRY, by_function: bool = False, max_functions: int = 100
) -> Callable[[], None]:
    """Record metrics from now on, in a registry of Prometheus's client library.

    What happens is counted, whatever session of this process it belongs to, and the gauges are those of all sessions that are
    open. May be called again for the same registry; its options are those of the first call. In a worker process nothing happens.

    Args:
        registry: Where the metrics are.
        by_function: Whether runs and items are told apart by the name of their function too, as label ``fn``: that makes
            some 50 time series of each, for every strategy that it executes with.
        max_functions: So many names are told apart, the first that come; all the others are ``fn="others"``.

    Returns:
        A function that ends what this call began; the metrics go with the last of them. It may be called from any thread,
        and more than once.

    Raises:
        ValueError: The registry has metrics of one of these names, of somebody else.
    """
    if in_worker():
        return lambda: None
    with _lock:
        metrics = _installed.get(registry)
        if metrics is None:
            metrics = _Metrics(registry, max_functions if by_function else None)
            _installed[registry] = metrics
        user = object()
        metrics.users.add(user)
    return partial(_remove, metrics, user)


def _remove(metrics: _Metrics, user: object) -> None:
    with _lock:
        metrics.users.discard(user)
        if not metrics.users and _installed.get(metrics.registry) is metrics:
            del _installed[metrics.registry]
            metrics.end()


class _Metrics(Collector):
    """The metrics in one registry; any thread may record.

    Args:
        registry: Which.
        max_functions: How many functions are told apart; None: not by functions.

    Attributes:
        registry: Likewise.
        users: Who wants them.
    """

    def __init__(self, registry: CollectorRegistry, max_functions: int | None) -> None:
        self.registry = registry
        self.users: set[object] = set()
        self._max_functions = max_functions
        self._functions: set[str] = set()
        self._metrics = {description: self._made(description) for description in RECORDED}
        self._decisions: dict[tuple[str, str], Callable[[], None]] = {}
        self._runs: dict[tuple[str, str | None], _Runs] = {}
        if max_functions is None:
            for strategy in Strategy:
                if strategy is not Strategy.AUTO:
                    self._runs_of(strategy.value, "")  # so that it counts from 0 on
        self._record: dict[type[Event], Callable[[Any], object]] = {
            RunDecided: self._decided,
            RunFinished: self._finished,
            RunFellBack: lambda event: self._count(FALLBACKS, event.reason),
            ItemRetried: lambda event: self._count(RETRIES),
            ItemTimedOut: lambda event: self._count(TIMEOUTS),
            ItemAbandoned: lambda event: self._count(ABANDONED),
            SessionOverloaded: lambda event: self._count(REFUSED, event.why, amount=event.n_refused),
            WorkerStarted: lambda event: self._metrics[START].observe(event.start_s),
            WorkerDied: lambda event: self._count(CRASHES, event.signal or "none"),
            WorkerKilled: lambda event: self._count(KILLS),
            WorkerRetired: lambda event: self._count(RETIRED),
        }
        registry.register(self)
        self._remove_sink = add_sink(self._sink)

    def end(self) -> None:
        """Record no more, and leave the registry."""
        self._remove_sink()
        with suppress(KeyError):  # somebody has taken them out already
            self.registry.unregister(self)

    # --- what is recorded ---------------------------------------------------------------------------------------------

    def _made(self, description: Description) -> Any:
        labels = description.labels
        if description.is_by_function and self._max_functions is not None:
            labels = (*labels, "fn")
        if description.kind == "counter":
            return Counter(description.name, description.text, labels, registry=None)
        return Histogram(description.name, description.text, labels, buckets=_SECONDS, registry=None)

    def _sink(self, event: Event) -> None:
        record = self._record.get(type(event))
        if record is not None:
            record(event)

    def _count(self, description: Description, *labels: str, amount: float = 1) -> None:
        metric = self._metrics[description]
        (metric.labels(*labels) if labels else metric).inc(amount)

    def _decided(self, event: RunDecided) -> None:
        where_why = event.strategy, event.reason
        decided = self._decisions.get(where_why)
        if decided is None:
            decided = self._decisions[where_why] = self._metrics[DECISIONS].labels(*where_why).inc
        decided()
        if event.shared_bytes and event.strategy == Strategy.PROCESSES:
            self._count(BOUND, amount=event.shared_bytes)

    def _finished(self, event: RunFinished) -> None:
        self._runs_of(event.strategy, event.fn).add(event)

    def _runs_of(self, strategy: str, fn: str) -> _Runs:
        """Return where runs of a function are counted, or of all functions alike."""
        name = None if self._max_functions is None else self._name(fn, self._max_functions)
        runs = self._runs.get((strategy, name))
        if runs is None:
            runs = self._runs[strategy, name] = _Runs(self._metrics, strategy, name)
        return runs

    def _name(self, fn: str, most: int) -> str:
        if fn not in self._functions:
            if len(self._functions) >= most:
                return OTHERS
            self._functions.add(fn)
        return fn

    # --- what is shown ------------------------------------------------------------------------------------------------

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values, by which the registry finds that a name is taken."""
        for description in RECORDED:
            yield Metric(description.name.removesuffix("_total"), description.text, description.kind)
        for description in GAUGES:
            yield GaugeMetricFamily(description.name, description.text)

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        for metric in self._metrics.values():
            yield from metric.collect()
        for description, value in gauges().items():
            yield GaugeMetricFamily(description.name, description.text, float(value))


class _Runs:
    """Where runs of one strategy, and of one function, are counted."""

    __slots__ = ("_busy", "_cancelled", "_completed", "_failed", "_run", "_wait")

    def __init__(self, metrics: dict[Description, Any], strategy: str, fn: str | None) -> None:
        more = () if fn is None else (fn,)
        self._completed, self._failed, self._cancelled = (
            metrics[ITEMS].labels(strategy, outcome, *more).inc for outcome in ("completed", "failed", "cancelled")
        )
        self._busy = metrics[BUSY].labels(strategy, *more).inc
        self._run = metrics[RUN].labels(strategy, *more).observe
        self._wait = metrics[WAIT].labels(strategy, *more).observe

    def add(self, event: RunFinished) -> None:
        """Count a run."""
        self._completed(event.tasks_completed)
        if event.tasks_failed:
            self._failed(event.tasks_failed)
        if event.tasks_cancelled:
            self._cancelled(event.tasks_cancelled)
        self._busy(event.busy_s)
        self._run(event.wall_s)
        self._wait(event.wait_s)


_lock = threading.Lock()
_installed: dict[CollectorRegistry, _Metrics] = {}


@in_forked_child
def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
