"""Telling of a run: what was decided before it, and what became of it."""

from __future__ import annotations

import re

from .endings import signal_name
from .errors import UnpicklableError
from .events import Guidance, ItemRetried, ItemTimedOut, RunDecided, RunFellBack, RunFinished, WorkerDied
from .explaining import printable
from .model import Decision, Reason, SessionStatistics, Strategy
from .options import CallOptions
from .pool.lane import WorkerLane
from .pool.pool import Pool
from .tally import Tally
from .telemetry import emit, is_heard
from .wire.status_page import PACKED

# What executes the items of each strategy, as the event of a decision names it.
_EXECUTOR_TYPES = {Strategy.SERIAL: "thread", Strategy.THREADS: "threads", Strategy.PROCESSES: "loky"}

# The way to a part of an object as far as it tells nothing of the data: attributes, and indexes of sequences.
_PATH = re.compile(r"(?:[^\[]|\[\d+\])*")

_topics_told: dict[str, object] = {}


def tell_decision(decision: Decision, options: CallOptions) -> None:
    """Tell where a run executes, and separately if that is not what was asked for."""
    if is_heard(RunDecided.level):
        emit(
            RunDecided(
                strategy=decision.strategy.value,
                reason=decision.reason.value,
                fn=decision.fn,
                n_items=decision.n_items,
                n_features=decision.n_features,
                workers=decision.workers,
                chunk_size=decision.chunk_size,
                item_s=decision.item_s,
                payload_bytes=decision.payload_bytes,
                shared_bytes=decision.shared_bytes,
                result_bytes=decision.result_bytes,
                gil_held=decision.gil_held,
                estimated_serial_s=decision.estimated_serial_s,
                estimated_s=decision.estimated_s,
                start_cost_s=decision.start_cost_s,
                platform=decision.platform,
                executor_type=_EXECUTOR_TYPES[decision.strategy],
                hint=decision.hint,
                label=_label(options),
            )
        )
    if is_fallback(decision):
        tell_fallback(decision.fn, decision.requested, decision.strategy, decision.reason, None, decision.n_items)


def is_fallback(decision: Decision) -> bool:
    """Whether a run executes elsewhere than it was asked to."""
    return decision.requested not in (Strategy.AUTO, decision.strategy) and decision.reason is not Reason.NO_ITEMS


def _label(options: CallOptions) -> str | None:
    return None if options.label is None else printable(options.label)


def tell_fallback(
    fn: str, from_: Strategy, to: Strategy, reason: Reason, error: BaseException | None, n_items: int | None
) -> None:
    """Tell that something executes elsewhere than it was asked to, or was going to.

    Args:
        fn: Name of the function.
        from_: Where it was to execute.
        to: Where it executes.
        reason: Why.
        error: What went wrong, if anything did; of it only types and paths are told.
        n_items: How many items are concerned; None where it isn't known.
    """
    emit(
        RunFellBack(
            from_strategy=from_.value,
            to_strategy=to.value,
            reason=reason.value,
            fn=fn,
            error=None if error is None else _without_values(error),
            n_items=n_items,
        )
    )


def _without_values(error: BaseException) -> str:
    """Return the type of an error and where it happened, and nothing of anybody's data."""
    name = _type_name(error)
    if isinstance(error, UnpicklableError):
        told = _PATH.match(error.path)
        path = told.group() if told else ""
        return f"{name} at {path}{'' if path == error.path else '[…]'} ({error.type_name})"
    cause = error.__cause__
    return name if cause is None else f"{name} from {_type_name(cause)}"


def _type_name(error: BaseException) -> str:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.").replace("offloop.errors.", "offloop.")
    return printable(name)


def tell_guidance(topic: str, advice: str, fn: str) -> None:
    """Tell how to have more, once per process for each topic; not yet told if nobody would hear it.

    Args:
        topic: What it is about; the name of the option or setting where there is one.
        advice: What to write, and what that would bring by what was measured.
        fn: Name of the function that it was measured on.
    """
    if not is_heard(Guidance.level):
        return
    told = object()
    if _topics_told.setdefault(topic, told) is told:  # one step, whatever other threads do
        emit(Guidance(topic=topic, advice=advice, fn=fn))


def forget_guidance() -> None:
    """Let every topic of guidance be told again."""
    _topics_told.clear()


def tell_end(decision: Decision, options: CallOptions, tally: Tally, wall_s: float, wait_s: float) -> None:
    """Tell what became of the items of a run."""
    if is_heard(RunFinished.level):
        emit(
            RunFinished(
                fn=decision.fn,
                strategy=decision.strategy.value,
                tasks_submitted=tally.submitted,
                tasks_completed=tally.completed,
                tasks_failed=tally.failed,
                tasks_cancelled=tally.cancelled,
                tasks_retried=tally.retried,
                wall_s=wall_s,
                wait_s=wait_s,
                busy_s=tally.busy_s,
                worker_utilisation_pct=tally.utilisation_pct,
                estimated_s=decision.estimated_s,
                speedup_estimate=tally.busy_s / wall_s if wall_s else 0.0,
                peak_in_flight=tally.peak_in_flight,
                label=_label(options),
            )
        )


def tell_death(function: str, exit_code: int | None, begun: int, cause: str) -> None:
    """Tell of a worker that died under work; `begun` as the status page had it."""
    item = None if begun & PACKED else begun
    emit(WorkerDied(fn=function, exit_code=exit_code, signal=signal_name(exit_code), item=item, cause=cause))


def tell_timeout(function: str, index: int, age_s: float, limit_s: float, *, is_killed: bool) -> None:
    """Tell that an item was stopped because its time was over."""
    emit(ItemTimedOut(fn=function, item=index, age_s=age_s, limit_s=limit_s, is_killed=is_killed))


def tell_retry(function: str, index: int, deaths: int) -> None:
    """Tell that an item will run again."""
    emit(ItemRetried(fn=function, item=index, deaths=deaths))


def snapshot(tally: Tally, pool: Pool[WorkerLane], queued: int = 0) -> SessionStatistics:
    """Return what a session has done so far.

    Args:
        tally: The counts of its runs that are over.
        pool: Its workers.
        queued: Items of runs under way that have no outcome yet.
    """
    now = tally.copy()
    return SessionStatistics(
        submitted=now.submitted,
        completed=now.completed,
        failed=now.failed,
        cancelled=now.cancelled,
        retried=now.retried,
        fallbacks=now.fallbacks,
        decisions=now.decisions,
        queued=queued,
        busy_s=now.busy_s,
        utilisation_pct=now.utilisation_pct,
        workers=tuple(lane.worker.pid for lane in pool.lanes if lane.worker.is_alive),
        workers_started=pool.n_started,
        workers_crashed=now.crashes,
        start_failures=pool.start_failures,
    )
