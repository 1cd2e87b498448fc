"""The options of a call, checked once, with the session's settings filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Literal, TypedDict

from .checks import (
    at_least,
    check_local,
    count_or_none,
    did_you_mean,
    flag,
    one_of,
    seconds_of,
    seconds_or_none,
    strategy_of,
    worker_count,
)
from .errors import SettingError, SettingTypeError
from .model import Strategy
from .progress import Progress
from .settings import ParallelConfig, StrategyName

OnError = Literal["raise", "group", "collect"]
Combine = Literal["concat", "list"]
Priority = Literal["interactive", "batch"]


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
        ordered: Whether a stream yields results in the order of their items; else as they come.
        window: The most items of a stream that may be read from the source and not yet done with; the consumer is done with one
            when it asks for the next. None: four chunks for each worker, so about 60 ms of work, and no more than four times
            4,096 items each.
        seed: Items, or blocks, get ``rng=``, a numpy Generator of their own, derived from this and their index.
        retries: How often an item may run again after its worker died under it.
        grace_s: How long an item that is to stop may take before its worker is killed.
        item_timeout_s: Seconds that an item may execute, waiting doesn't count; then it is stopped like a cancelled one and
            fails with `ItemTimeout`. Of a single call it is ``timeout_s``, of `run_batches` it is for a block. `auto` then
            takes worker processes from the first item on, since a thread can't be killed.
        thread_safe: Whether fn may run in several threads of this process at once, so that `auto` may choose them.
        item_cost_s: Seconds that an item takes, or a row, if you know; then nothing is measured first.
        item_bytes: Bytes that an item brings with it, or a row, if you know.
        max_wait_s: How long it may wait for a worker before it begins, see `ParallelConfig`.
        priority: ``interactive``, as single calls are if you don't say, or ``batch``: where both wait for workers, what is interactive
            gets ten times the share, and its turn comes at once. Within each, labels share the workers equally, and calls of one
            label are served in their order.
        progress: Who is told how far it has come. True: whoever looks at the terminal or the notebook, by a bar where tqdm is
            installed; ``"text"``: by a line of text in any case; where there is no terminal, nobody. A function: it is called with a
            `ProgressEvent` every 0.1 s and at the end, on the event loop, so it must be quick, and what it raises is logged
            and changes nothing. A `ProgressStream`: whoever iterates over it. None: nobody.
        label: A name for this run in logs. Calls of one label have one share of the workers; each map or stream without
            one has its own, single calls without one have one together.
    """

    strategy: Strategy
    is_consent: bool = False
    workers: int | None = None
    chunk_size: int | None = None
    batch_size: int | None = None
    combine: Combine | None = None
    on_error: OnError = "raise"
    ordered: bool = True
    window: int | None = None
    seed: int | None = None
    retries: int = 1
    grace_s: float = 1.0
    item_timeout_s: float | None = None
    thread_safe: bool = False
    item_cost_s: float | None = None
    item_bytes: int | None = None
    max_wait_s: float | None = None
    priority: Priority = "batch"
    progress: Progress | None = None
    label: str | None = None


class _Options(TypedDict, total=False):
    """What all runs have in common."""

    strategy: StrategyName | Strategy
    retries: int
    grace_s: float
    thread_safe: bool
    max_wait_s: float | None
    priority: Priority | None
    progress: Progress | None
    label: str | None


class RunOptions(_Options, total=False):
    """Keyword options of `run`; `CallOptions` says what each means, of ``timeout_s`` as ``item_timeout_s``."""

    timeout_s: float | None


class _ManyOptions(_Options, total=False):
    """What `run_parallel` and `run_batches` have in common."""

    item_timeout_s: float | None
    workers: int | None
    item_cost_s: float | None
    item_bytes: int | None


class MapOptions(_ManyOptions, total=False):
    """Keyword options of `run_parallel` besides ``seed`` and ``on_error``; `CallOptions` says what each means."""

    chunk_size: int | None


class StreamOptions(MapOptions, total=False):
    """Keyword options of `stream` besides ``seed`` and ``on_error``; see `CallOptions`."""

    ordered: bool
    window: int | None


class BranchOptions(_Options, total=False):
    """Keyword options of `run_branches` besides ``seed`` and ``on_error``; `CallOptions` says what each means, of units as items.

    ``item_cost_s`` may also say it for each branch, by its name.
    """

    item_timeout_s: float | None
    workers: int | None
    item_cost_s: float | Mapping[str, float] | None
    item_bytes: int | None


class BatchOptions(_ManyOptions, total=False):
    """Keyword options of `run_batches` besides ``combine``, ``seed`` and ``on_error``; see `CallOptions`."""

    batch_size: int | None


_CHECKS: dict[str, Callable[[Any], object]] = {
    "strategy": strategy_of,
    "workers": worker_count,
    "chunk_size": lambda value: count_or_none(value, "chunk_size"),
    "retries": lambda value: at_least(value, "retries", 0),
    "grace_s": lambda value: seconds_of(value, "grace_s"),
    "item_timeout_s": lambda value: seconds_or_none(value, "item_timeout_s", positive=True),
    "timeout_s": lambda value: seconds_or_none(value, "timeout_s", positive=True),
    "max_wait_s": lambda value: seconds_or_none(value, "max_wait_s"),
    "priority": lambda value: None if value is None else one_of(value, "priority", ("interactive", "batch")),
}


def _seed(value: object) -> int | None:
    if value is None:
        return None
    return at_least(value, "seed", 0)


def check_label(value: object) -> str | None:
    """Return the name of a call, if it has one.

    Raises:
        SettingTypeError: It isn't a string.
    """
    if value is not None and not isinstance(value, str):
        raise SettingTypeError("label", value, "write a string.")
    return value


def check_progress(value: object) -> Progress | None:
    """Return who is to be told how far a run has come; None if nobody is.

    Raises:
        SettingTypeError: It can't be told.
    """
    if value is None or value is False:
        return None
    if value is True:
        return True
    if isinstance(value, str) and value == "text":  # an array compares in its own way
        return "text"
    if not callable(value) or iscoroutinefunction(value) or iscoroutinefunction(type(value).__call__):
        advice = 'write True, "text", a plain function that takes a ProgressEvent, or an offloop.ProgressStream() to iterate over.'
        raise SettingTypeError("progress", value, advice)
    return value


_CHECKS |= {
    "progress": check_progress,
    "on_error": lambda value: one_of(value, "on_error", ("raise", "group", "collect")),
    "thread_safe": lambda value: flag(value, "thread_safe"),
    "item_cost_s": lambda value: seconds_or_none(value, "item_cost_s", positive=True),
    "item_bytes": lambda value: None if value is None else at_least(value, "item_bytes", 0),
    "seed": _seed,
    "batch_size": lambda value: count_or_none(value, "batch_size"),
    "ordered": lambda value: flag(value, "ordered"),
    "window": lambda value: count_or_none(value, "window"),
    "combine": lambda value: one_of(value, "combine", ("concat", "list")),
    "label": check_label,
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
        "max_wait_s": config.max_wait_s,
        "priority": None,
    }
    for name, value in given.items():
        if name not in allowed:
            raise SettingTypeError(name, value, f"no such option; {did_you_mean(name, tuple(sorted(allowed)))}")
        checked[name] = _CHECKS[name](value)
    if allowed is STREAM_OPTIONS and checked.get("on_error") == "group":
        raise SettingError("on_error", given["on_error"], 'a stream may have no end to raise a group at; write "raise" or "collect".')
    check_local(config.local, checked["strategy"])
    checked["priority"] = checked["priority"] or ("interactive" if allowed is RUN_OPTIONS else "batch")
    setting = "timeout_s" if "timeout_s" in checked else "item_timeout_s"
    limit_s = checked.pop(setting, None)
    if limit_s is not None:
        _check_stoppable(setting, given[setting], checked["strategy"])
        checked["item_timeout_s"] = limit_s
    return CallOptions(is_consent=is_consent or "strategy" in given, **checked)


def check_answer(handler: object) -> Callable[[Any], Any]:
    """Return what is to answer questions.

    Raises:
        SettingTypeError: It can't: it isn't a function, or an async one.
    """
    if not callable(handler):
        raise SettingTypeError("answer", handler, "write a function that takes a question and returns the answer.")
    if iscoroutinefunction(handler):
        advice = "it is called in a thread, so write a plain function; anyio.from_thread.run reaches the event loop from there."
        raise SettingTypeError("answer", handler, advice)
    return handler


def _check_stoppable(setting: str, limit_s: object, strategy: Strategy) -> None:
    """Refuse a time limit for what can't be stopped for sure."""
    if strategy in (Strategy.SERIAL, Strategy.THREADS):
        advice = f'a thread of this process can\'t be killed, so strategy="{strategy}" can\'t hold it; write "auto" or "processes".'
        raise SettingError(setting, limit_s, advice)


RUN_OPTIONS = frozenset(RunOptions.__annotations__)
MAP_OPTIONS = frozenset(MapOptions.__annotations__) | {"seed", "on_error"}
STREAM_OPTIONS = frozenset(StreamOptions.__annotations__) | {"seed", "on_error"}
BRANCH_OPTIONS = frozenset(BranchOptions.__annotations__) | {"seed", "on_error"}
BATCH_OPTIONS = frozenset(BatchOptions.__annotations__) | {"combine", "seed", "on_error"}
