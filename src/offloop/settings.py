"""The settings of a session and the options of a call, checked once."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, SupportsFloat, TypedDict

from .errors import SettingError, SettingTypeError
from .model import Described, Strategy

OnError = Literal["raise", "group", "collect"]
Combine = Literal["concat", "list"]
StrategyName = Literal["auto", "serial", "threads", "processes"]
Local = Literal["allow", "never"]
TransportName = Literal["memory", "file", "portable"]


def did_you_mean(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """Return advice that names the nearest of the known names."""
    near = difflib.get_close_matches(name, list(known), n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}There are {', '.join(known)}."


def _strategy(value: object, setting: str = "strategy") -> Strategy:
    if not isinstance(value, str):
        raise SettingTypeError(setting, value, f"write one of {', '.join(Strategy)}.")
    try:
        return Strategy[value.upper()]
    except KeyError:
        raise SettingError(setting, value, did_you_mean(value, tuple(Strategy))) from None


def _whole(value: object, setting: str, advice: str) -> int:
    if isinstance(value, bool):
        raise SettingTypeError(setting, value, advice)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise SettingTypeError(setting, value, advice) from None


def _workers(value: object, setting: str = "workers") -> int | None:
    if value is None:
        return None
    advice = "write how many processes may work (1, 2, …), -1 for all usable cores, or None to let offloop choose."
    number = _whole(value, setting, advice)
    if number == 0:
        raise SettingError(setting, value, "no work can be done with none; write strategy=\"serial\" for none at all.")
    if number < -1:
        raise SettingError(setting, value, advice)
    return number


def _at_least(value: object, setting: str, low: int) -> int:
    advice = f"write a whole number, {low} or more."
    number = _whole(value, setting, advice)
    if number < low:
        raise SettingError(setting, value, advice)
    return number


def _chunk_size(value: object, setting: str = "chunk_size") -> int | None:
    return None if value is None else _at_least(value, setting, 1)


def _bytes(value: object, setting: str) -> int | None:
    return None if value is None else _at_least(value, setting, 1)


def _seconds(value: object, setting: str, *, positive: bool = False) -> float:
    advice = f"write seconds as a finite number {'above' if positive else 'of at least'} 0."
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise SettingTypeError(setting, value, advice)
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0 or (positive and seconds == 0):
        raise SettingError(setting, value, advice)
    return seconds


def _one_of(value: object, setting: str, words: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value.lower() not in words:
        kind = SettingError if isinstance(value, str) else SettingTypeError
        quoted = [f'"{word}"' for word in words]
        raise kind(setting, value, f"write {', '.join(quoted[:-1])} or {quoted[-1]}.")
    return value.lower()


def _flag(value: object, setting: str) -> bool:
    if not isinstance(value, bool):
        raise SettingTypeError(setting, value, "write True or False.")
    return value


def _ratio(value: object, setting: str) -> float:
    advice = "write a finite number of at least 1, for example 1.2."
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise SettingTypeError(setting, value, advice)
    number = float(value)
    if not math.isfinite(number) or number < 1:
        raise SettingError(setting, value, advice)
    return number


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
        idle_timeout_s: A worker without work for so long ends itself. A guess: long enough for bursts of a web
            service, short enough not to hold memory over lunch.
        worker_nice: How much lower the scheduling priority of worker processes is. At 5 the loop's wake-up delay
            p99 beside busy workers fell from 0.95 to 0.18 ms; 10 and 19 added nothing.
        local: ``never`` keeps items out of this process: `auto` then uses worker processes from the first item on.
        transport: How large buffers travel. ``memory``: in memory files without a name, memfd_create(2); where these can't
            be had as ``file``. ``file``: in unlinked temporary files, in /dev/shm or the temporary folder. ``portable``:
            in private files with a name, over loopback TCP, for platforms that pass no descriptors.
        max_in_flight_bytes: The most bytes of large buffers that may be on their way at a time; what more is to be sent
            waits. None: a quarter of what memory is free, and no less than 64 MiB.
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
    idle_timeout_s: float = 60.0
    worker_nice: int = 5
    local: Local = "allow"
    transport: TransportName = "memory"
    max_in_flight_bytes: int | None = None
    worker_init: Callable[..., object] | None = None
    worker_init_args: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            "workers": _workers(self.workers),
            "strategy": _strategy(self.strategy),
            "chunk_size": _chunk_size(self.chunk_size),
            "min_speedup": _ratio(self.min_speedup, "min_speedup"),
            "retries": _at_least(self.retries, "retries", 0),
            "grace_s": _seconds(self.grace_s, "grace_s"),
            "idle_timeout_s": _seconds(self.idle_timeout_s, "idle_timeout_s", positive=True),
            "worker_nice": _at_least(self.worker_nice, "worker_nice", 0),
            "local": _one_of(self.local, "local", ("allow", "never")),
            "transport": _one_of(self.transport, "transport", ("memory", "file", "portable")),
            "max_in_flight_bytes": _bytes(self.max_in_flight_bytes, "max_in_flight_bytes"),
        }
        if not isinstance(self.worker_init_args, tuple | list):
            raise SettingTypeError("worker_init_args", self.worker_init_args, "pass a tuple of arguments.")
        checked["worker_init_args"] = tuple(self.worker_init_args)
        if self.worker_init is not None and not callable(self.worker_init):
            raise SettingTypeError("worker_init", self.worker_init, "pass a function.")
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        check_local(self.local, self.strategy)


def check_local(local: Local, strategy: Strategy) -> None:
    """Refuse a strategy that would run items in this process where that may never be.

    Raises:
        SettingError: strategy is one of this process's, and local is ``never``.
    """
    if local == "never" and strategy in (Strategy.SERIAL, Strategy.THREADS):
        raise SettingError("strategy", strategy.value, 'local="never" keeps items out of this process; write "auto" or "processes".')


@dataclass(frozen=True, kw_only=True, slots=True)
class CallOptions:
    """The options of one run, with the session's settings already filled in.

    Attributes:
        strategy: Where the items execute.
        is_consent: Whether strategy was an argument of the call, which is consent to run fn in several threads.
        workers: Most workers for this run; None: as many as the session has.
        chunk_size: Items per chunk; None: steered by measured time.
        batch_size: Rows per block, the last one shorter; None: steered by measured time, or 256 where there is a seed.
        combine: ``concat``, as `run_batches` has it if you don't say: results of blocks are concatenated in order, by
            their type. ``list``: they are returned as a list. None where fn gets items one by one.
        on_error: ``raise``: the first failure cancels its siblings and is raised. ``group``: all items run, failures
            are raised as one ExceptionGroup. ``collect``: failures stand in the list in place of results.
        seed: Items, or blocks, get ``rng=``, a numpy Generator of their own, derived from this and their index.
        retries: How often an item may run again after its worker died under it.
        grace_s: How long a cancelled item may take to stop before its worker is killed.
        thread_safe: Whether fn may run in several threads of this process at once, so that `auto` may choose them.
        item_cost_s: Seconds that an item takes, or a row, if you know; then nothing is measured first.
        item_bytes: Bytes that an item brings with it, or a row, if you know.
        label: A name for this run in logs.
    """

    strategy: Strategy
    is_consent: bool = False
    workers: int | None = None
    chunk_size: int | None = None
    batch_size: int | None = None
    combine: Combine | None = None
    on_error: OnError = "raise"
    seed: int | None = None
    retries: int = 1
    grace_s: float = 1.0
    thread_safe: bool = False
    item_cost_s: float | None = None
    item_bytes: int | None = None
    label: str | None = None


class RunOptions(TypedDict, total=False):
    """Keyword options of `run`; `CallOptions` says what each means."""

    strategy: StrategyName | Strategy
    retries: int
    grace_s: float
    thread_safe: bool
    label: str | None


class _ManyOptions(RunOptions, total=False):
    """What `run_parallel` and `run_batches` have in common."""

    workers: int | None
    item_cost_s: float | None
    item_bytes: int | None


class MapOptions(_ManyOptions, total=False):
    """Keyword options of `run_parallel` besides ``seed`` and ``on_error``; `CallOptions` says what each means."""

    chunk_size: int | None


class BatchOptions(_ManyOptions, total=False):
    """Keyword options of `run_batches` besides ``combine``, ``seed`` and ``on_error``; see `CallOptions`."""

    batch_size: int | None


_CHECKS: dict[str, Callable[[Any], object]] = {
    "strategy": _strategy,
    "workers": _workers,
    "chunk_size": _chunk_size,
    "retries": lambda value: _at_least(value, "retries", 0),
    "grace_s": lambda value: _seconds(value, "grace_s"),
}


def _seed(value: object) -> int | None:
    if value is None:
        return None
    return _at_least(value, "seed", 0)


def _label(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise SettingTypeError("label", value, "write a string.")
    return value


_CHECKS |= {
    "on_error": lambda value: _one_of(value, "on_error", ("raise", "group", "collect")),
    "thread_safe": lambda value: _flag(value, "thread_safe"),
    "item_cost_s": lambda value: None if value is None else _seconds(value, "item_cost_s", positive=True),
    "item_bytes": lambda value: None if value is None else _at_least(value, "item_bytes", 0),
    "seed": _seed,
    "batch_size": lambda value: None if value is None else _at_least(value, "batch_size", 1),
    "combine": lambda value: _one_of(value, "combine", ("concat", "list")),
    "label": _label,
}


def resolve_options(
    config: ParallelConfig, given: Mapping[str, Any], allowed: frozenset[str], *, is_consent: bool
) -> CallOptions:
    """Check the options given to a call and fill in the rest from the session's settings.

    Args:
        config: The session's settings.
        given: The options of the call.
        allowed: Names of the options that there are.
        is_consent: Whether the session's own strategy is consent to run fn in several threads.

    Raises:
        SettingError: A value can't work.
        SettingTypeError: A value is of the wrong type, or the option does not exist.
    """
    checked: dict[str, Any] = {
        "strategy": config.strategy,
        "chunk_size": config.chunk_size,
        "retries": config.retries,
        "grace_s": config.grace_s,
    }
    for name, value in given.items():
        if name not in allowed:
            raise SettingTypeError(name, value, f"no such option; {did_you_mean(name, tuple(sorted(allowed)))}")
        checked[name] = _CHECKS[name](value)
    check_local(config.local, checked["strategy"])
    return CallOptions(is_consent=is_consent or "strategy" in given, **checked)


RUN_OPTIONS = frozenset(RunOptions.__annotations__)
MAP_OPTIONS = frozenset(MapOptions.__annotations__) | {"seed", "on_error"}
BATCH_OPTIONS = frozenset(BatchOptions.__annotations__) | {"combine", "seed", "on_error"}


class Settings(TypedDict, total=False):
    """The settings of `ParallelConfig` as keywords of a session."""

    workers: int | None
    strategy: StrategyName | Strategy
    chunk_size: int | None
    min_speedup: float
    retries: int
    grace_s: float
    idle_timeout_s: float
    worker_nice: int
    local: Local
    transport: TransportName
    max_in_flight_bytes: int | None
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
