"""Telling of a run: what was decided before it, and what became of it."""

from __future__ import annotations

from .events import RunDecided, RunFellBack, RunFinished
from .model import Decision, Strategy
from .settings import CallOptions
from .tally import Tally
from .telemetry import emit, is_heard


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
    if decision.requested not in (Strategy.AUTO, decision.strategy):
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
