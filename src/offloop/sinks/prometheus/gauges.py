"""What sessions are doing now, added up."""

from __future__ import annotations

from ... import SessionStatistics
from ...lifetime import open_sessions
from .described import FAILING, PENDING, QUEUED, SESSIONS, SHARED, UTILISATION, WORKERS, Description


def gauges() -> dict[Description, float]:
    """Return the values of all sessions of this process that are open, as they are now."""
    each = [session.statistics() for session in open_sessions()]
    return {
        SESSIONS: len(each),
        PENDING: sum(one.pending for one in each),
        QUEUED: sum(one.queued for one in each),
        WORKERS: sum(len(one.workers) for one in each),
        UTILISATION: _utilisation(each),
        SHARED: sum(one.shared_bytes for one in each),
        FAILING: sum(one.start_failures for one in each),
    }


def _utilisation(each: list[SessionStatistics]) -> float:
    """Return what sessions have used of the time that their workers had, 0 to 1."""
    could_s = sum(100 * one.busy_s / one.utilisation_pct for one in each if one.utilisation_pct)
    return sum(one.busy_s for one in each) / could_s if could_s else 0.0
