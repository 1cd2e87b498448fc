"""The settings of a session, checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict

from .checks import (
    at_least,
    check_local,
    count_or_none,
    did_you_mean,
    one_of,
    ratio,
    seconds_of,
    seconds_or_none,
    strategy_of,
    worker_count,
)
from .errors import SettingError, SettingTypeError
from .model import Described, Strategy

StrategyName = Literal["auto", "serial", "threads", "processes"]
Local = Literal["allow", "never"]
TransportName = Literal["memory", "file", "portable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelConfig:
    """The settings of a session; the one home of their defaults.

    A value comes from, in this order: the argument of a call, the session, the environment (``OFFLOOP_` and the
    setting's name in capitals; ``strategy`` is ``OFFLOOP_PARALLEL``), the default here. A value in a config that is
    the default counts as not given; a keyword of the session always counts.

    Attributes:
        workers: Most worker processes (or threads, under ``threads``) at a time. None and -1: one per usable core.
        strategy: Where items execute.
        chunk_size: Items per chunk. None: steered by measured time, about 15 ms a chunk. Not for `run_batches`, whose
            blocks have a ``batch_size`` of their own.
        min_speedup: `auto` leaves serial for an estimated gain of at least this factor. 1.2 is the adoption
            threshold of the playbook that this library grew from.
        retries: How often an item may run again after its worker died under it; 0 never runs an item twice.
        grace_s: How long a cancelled item may take to stop before its worker is killed.
        max_items_per_worker: A worker that has executed so many items is replaced by a fresh one. None: never.
        worker_max_rss_bytes: A worker that holds more memory of its own than this between two items (shared pages don't
            count) is replaced by a fresh one. None: never.
        idle_timeout_s: A worker without work for so long ends itself. A guess: long enough for bursts of a web
            service, short enough not to hold memory over lunch.
        worker_nice: How much lower the scheduling priority of worker processes is. At 5 the loop's wake-up delay
            p99 beside busy workers fell from 0.95 to 0.18 ms; 10 and 19 added nothing.
        local: ``never`` keeps items out of this process: `auto` then uses worker processes from the first item on.
        transport: How large buffers travel. ``memory``: in memory files without a name, memfd_create(2); where these can't
            be had as ``file``. ``file``: in unlinked temporary files, in /dev/shm or the temporary folder. ``portable``:
            in private files with a name, over loopback TCP, for platforms that pass no descriptors.
        max_in_flight_bytes: The most bytes of large buffers that may be on their way at a time; what more is to be sent
            waits. None: a quarter of what memory is free, and no less than 64 MiB. What the window of a stream holds is
            bounded likewise.
        max_pending: The most calls that may wait or execute at a time; the next one is refused with `Overloaded`. A map, a stream
            and a single call are one each. None: any number.
        max_pending_bytes: The most bytes that single calls under way may bring as arguments; likewise. None: any number.
        max_wait_s: How long a call may wait for a worker before it begins; beyond that it is refused with `Overloaded`, at once if the
            work that waits before it is estimated to take longer. None: as long as it takes.
        worker_init: Called once in every process that executes items, this process included when items run here;
            what it returns is `offloop.worker_state()` there.
        worker_init_args: Arguments of worker_init.
    """

    workers: int | None = None
    strategy: Strategy = Strategy.AUTO
    chunk_size: int | None = None
    min_speedup: float = 1.2
    retries: int = 1
    grace_s: float = 1.0
    max_items_per_worker: int | None = None
    worker_max_rss_bytes: int | None = None
    idle_timeout_s: float = 60.0
    worker_nice: int = 5
    local: Local = "allow"
    transport: TransportName = "memory"
    max_in_flight_bytes: int | None = None
    max_pending: int | None = None
    max_pending_bytes: int | None = None
    max_wait_s: float | None = None
    worker_init: Callable[..., object] | None = None
    worker_init_args: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            "workers": worker_count(self.workers),
            "strategy": strategy_of(self.strategy),
            "chunk_size": count_or_none(self.chunk_size, "chunk_size"),
            "min_speedup": ratio(self.min_speedup, "min_speedup"),
            "retries": at_least(self.retries, "retries", 0),
            "grace_s": seconds_of(self.grace_s, "grace_s"),
            "max_items_per_worker": count_or_none(self.max_items_per_worker, "max_items_per_worker"),
            "worker_max_rss_bytes": count_or_none(self.worker_max_rss_bytes, "worker_max_rss_bytes"),
            "idle_timeout_s": seconds_of(self.idle_timeout_s, "idle_timeout_s", positive=True),
            "worker_nice": at_least(self.worker_nice, "worker_nice", 0),
            "local": one_of(self.local, "local", ("allow", "never")),
            "transport": one_of(self.transport, "transport", ("memory", "file", "portable")),
            "max_in_flight_bytes": count_or_none(self.max_in_flight_bytes, "max_in_flight_bytes"),
            "max_pending": count_or_none(self.max_pending, "max_pending"),
            "max_pending_bytes": count_or_none(self.max_pending_bytes, "max_pending_bytes"),
            "max_wait_s": seconds_or_none(self.max_wait_s, "max_wait_s"),
        }
        if not isinstance(self.worker_init_args, tuple | list):
            raise SettingTypeError("worker_init_args", self.worker_init_args, "pass a tuple of arguments.")
        checked["worker_init_args"] = tuple(self.worker_init_args)
        if self.worker_init is not None and not callable(self.worker_init):
            raise SettingTypeError("worker_init", self.worker_init, "pass a function.")
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        check_local(self.local, self.strategy)


class Settings(TypedDict, total=False):
    """The settings of `ParallelConfig` as keywords of a session."""

    workers: int | None
    strategy: StrategyName | Strategy
    chunk_size: int | None
    min_speedup: float
    retries: int
    grace_s: float
    max_items_per_worker: int | None
    worker_max_rss_bytes: int | None
    idle_timeout_s: float
    worker_nice: int
    local: Local
    transport: TransportName
    max_in_flight_bytes: int | None
    max_pending: int | None
    max_pending_bytes: int | None
    max_wait_s: float | None
    worker_init: Callable[..., object] | None
    worker_init_args: tuple[Any, ...]


class SettingSource(Described):
    """Where the value of a session's setting comes from."""

    KEYWORD = "keyword", "A keyword of the session."
    CONFIG = "config", "The session's ParallelConfig."
    ENVIRONMENT = "environment", "The setting's OFFLOOP_ variable."
    DEFAULT = "default", "The default."


def variable_of(setting: str) -> str:
    """Return the name of the variable that carries a setting."""
    return "OFFLOOP_PARALLEL" if setting == "strategy" else f"OFFLOOP_{setting.upper()}"


def session_settings(
    config: ParallelConfig | None, given: Mapping[str, Any], environment: Mapping[str, Any]
) -> tuple[ParallelConfig, dict[str, SettingSource]]:
    """Return a session's settings: its keywords before its config before the environment before the defaults.

    Also returns where each of them comes from.

    Raises:
        SettingError: A value can't work; where it comes from the environment, its variable is named.
        SettingTypeError: A setting does not exist, or its value is of the wrong type.
    """
    default = ParallelConfig()
    sources = {field.name: SettingSource.DEFAULT for field in fields(ParallelConfig)}
    for name, value in given.items():
        if name not in sources:
            raise SettingTypeError(name, value, f"no such setting; {did_you_mean(name, sources)}")
    if config is not None and not isinstance(config, ParallelConfig):
        raise SettingTypeError("config", config, "pass a ParallelConfig, or its settings as keywords.")
    base = config or default
    for name in sources:
        if name in given:
            sources[name] = SettingSource.KEYWORD
        elif getattr(base, name) != getattr(default, name):
            sources[name] = SettingSource.CONFIG
        elif name in environment:
            sources[name] = SettingSource.ENVIRONMENT
    sensed = {name: environment[name] for name, source in sources.items() if source is SettingSource.ENVIRONMENT}
    try:
        return replace(base, **sensed, **given), sources
    except SettingError as error:
        if error.setting not in sensed:
            raise
        raise SettingError(variable_of(error.setting), error.value, error.advice) from None
