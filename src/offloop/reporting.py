"""Telling of a run: what was decided before it, and what became of it."""

from __future__ import annotations

from .errors import WorkerCrashed
from .events import ItemRetried, RunDecided, RunFellBack, RunFinished, WorkerDied
from .model import Decision, Reason, SessionStatistics, Strategy
from .pool.lane import WorkerLane
from .pool.pool import Pool
from .settings import CallOptions
from .tally import Tally
from .telemetry import emit, is_heard
from .wire.status_page import OVER, UNPACKING


def tell_decision(decision: Decision, options: CallOptions) -> None:
    """Tell where a run executes, and separately if that is not what was asked for."""
    if is_heard(RunDecided.level):
        emit(
            RunDecided(
                strategy=decision.strategy.value,
                reason=decision.reason.value,
                fn=decision.fn,
                n_items=decision.n_items,
                workers=decision.workers,
                chunk_size=decision.chunk_size,
                item_s=decision.item_s,
                estimated_serial_s=decision.estimated_serial_s,
                estimated_s=decision.estimated_s,
                label=options.label,
            )
        )
    if decision.requested not in (Strategy.AUTO, decision.strategy) and decision.reason is not Reason.NO_ITEMS:
        emit(
            RunFellBack(
                from_strategy=decision.requested.value,
                to_strategy=decision.strategy.value,
                reason=decision.reason.value,
                fn=decision.fn,
            )
        )


def tell_end(decision: Decision, options: CallOptions, tally: Tally, wall_s: float) -> None:
    """Tell what became of the items of a run."""
    if is_heard(RunFinished.level):
        emit(
            RunFinished(
                fn=decision.fn,
                tasks_submitted=tally.submitted,
                tasks_completed=tally.completed,
                tasks_failed=tally.failed,
                tasks_cancelled=tally.cancelled,
                tasks_retried=tally.retried,
                wall_s=wall_s,
                busy_s=tally.busy_s,
                worker_utilisation_pct=100 * tally.busy_s / (wall_s * decision.workers) if wall_s else 0.0,
                label=options.label,
            )
        )


def tell_death(function: str, exit_code: int | None, begun: int) -> None:
    """Tell of a worker that died under work; `begun` as the status page had it."""
    item = begun if begun not in (OVER, UNPACKING) else None
    signal = WorkerCrashed(0, 0, exit_code, function).signal
    emit(WorkerDied(fn=function, exit_code=exit_code, signal=signal, item=item))


def tell_retry(function: str, index: int, deaths: int) -> None:
    """Tell that an item will run again."""
    emit(ItemRetried(fn=function, item=index, deaths=deaths))


def snapshot(tally: Tally, pool: Pool[WorkerLane]) -> SessionStatistics:
    """Return what a session has done so far."""
    return SessionStatistics(
        submitted=tally.submitted,
        completed=tally.completed,
        failed=tally.failed,
        cancelled=tally.cancelled,
        retried=tally.retried,
        busy_s=tally.busy_s,
        workers=tuple(lane.worker.pid for lane in pool.lanes if lane.worker.is_alive),
        workers_started=pool.n_started,
        workers_crashed=tally.crashes,
    )
