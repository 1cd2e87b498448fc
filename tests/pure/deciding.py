"""What the tests of deciding share: a host, some work, and ways to ask about them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from offloop.deciding.decide import decide
from offloop.model import Decision, Host, Strategy, Workload
from offloop.options import CallOptions
from offloop.settings import ParallelConfig

HOST = Host(cores=4, worker_start_s=0.1, round_trip_s=0.0001)
WORK = Workload(fn="app.fn", n_items=1000, item_s=0.001, idle_workers=4)
AUTO = CallOptions(strategy=Strategy.AUTO)
SAFE = CallOptions(strategy=Strategy.AUTO, thread_safe=True)
CONFIG = ParallelConfig()
NEVER = ParallelConfig(local="never")


def choose(
    host: Host = HOST, work: Workload = WORK, options: CallOptions = AUTO, config: ParallelConfig = CONFIG
) -> Decision:
    """Decide, with defaults for four cores, warm workers and a thousand items of a millisecond."""
    return decide(host, work, options, config)


def explicit(strategy: Strategy, **options: Any) -> CallOptions:
    """Return options with this strategy as an argument of the call."""
    return CallOptions(strategy=strategy, is_consent=True, **options)


def is_done(work: Workload) -> bool:
    """Whether no item is left, so that it doesn't matter where the run is said to be."""
    return work.n_items is not None and work.n_done >= work.n_items


# --- every situation that there may be -------------------------------------------------------------------------------

_seconds = st.floats(0, 1e6) | st.floats(0, 1) | st.floats(0, 1e-3)
_bytes = st.floats(0, 1e12) | st.floats(0, 1e5)
_timeouts = st.floats(1e-6, 1e6)
_some_workers = st.none() | st.just(-1) | st.integers(1, 1000)

hosts = st.builds(
    Host,
    cores=st.integers(1, 512) | st.integers(1, 4),
    physical=st.none() | st.integers(1, 512),
    platform=st.sampled_from(["linux", "win32", "darwin"]),
    has_gil=st.booleans(),
    memory_bytes=st.none() | st.integers(0, 10**12),
    is_ci=st.booleans(),
    is_worker=st.booleans(),
    foreign_pool=st.none() | st.just("joblib"),
    is_off=st.booleans(),
    lifts_ci=st.booleans(),
    worker_start_s=st.floats(0, 10),
    round_trip_s=st.floats(0, 1),
    thread_trip_s=st.floats(1e-9, 1),
    bytes_per_s=st.floats(1, 1e12),
    worker_bytes=st.integers(1, 10**11),
)
works = st.builds(
    Workload,
    fn=st.just("fn"),
    n_items=st.none() | st.integers(1, 10**12) | st.integers(0, 20),
    n_done=st.just(0) | st.integers(0, 22),
    item_s=st.none() | _seconds,
    longest_s=st.none() | _seconds,
    gil_held=st.none() | st.floats(0, 1),
    payload_bytes=_bytes,
    result_bytes=_bytes,
    transport_s=st.none() | _seconds,
    is_light=st.booleans(),
    n_features=st.none() | st.integers(0, 10**6),
    idle_workers=st.integers(0, 512),
    max_workers=st.none() | st.integers(1, 512) | st.integers(1, 4),
    local_backlog_s=_seconds,
    workers_backlog_s=_seconds,
    import_s=st.just(0.0) | st.floats(0, 60),
    starting_s=st.just(0.0) | _seconds,
    may_bridge=st.booleans(),
    forgone_s=st.just(0.0) | _seconds,
    has_crashed=st.booleans(),
    inner=st.none() | st.just("rf.n_jobs=-1"),
    current=st.sampled_from([None, Strategy.SERIAL, Strategy.THREADS, Strategy.PROCESSES]),
    bias=st.dictionaries(st.sampled_from([Strategy.THREADS, Strategy.PROCESSES]), st.floats(0.7, 3.0)),
)
unfinished_works = works.filter(lambda work: not is_done(work))
all_options = st.builds(
    CallOptions,
    strategy=st.sampled_from(Strategy),
    is_consent=st.booleans(),
    workers=_some_workers,
    chunk_size=st.none() | st.integers(1, 10**6),
    grace_s=_seconds,
    item_timeout_s=st.none() | _timeouts,
    thread_safe=st.booleans(),
)
auto_options = st.builds(
    CallOptions,
    strategy=st.just(Strategy.AUTO),
    workers=_some_workers,
    grace_s=_seconds,
    item_timeout_s=st.none() | _timeouts,
    thread_safe=st.booleans(),
)
configs = st.builds(
    ParallelConfig, workers=_some_workers, min_speedup=st.floats(1, 100), local=st.sampled_from(["allow", "never"])
)
