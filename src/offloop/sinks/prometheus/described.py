"""What metrics there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """What a metric is; there is one of each, so that looking one up is quick.

    Attributes:
        name: Its name, unit included.
        kind: Its type.
        labels: What it is told apart by.
        text: What it says.
        is_by_function: Whether ``by_function=True`` gives it the label ``fn`` as well.
    """

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    labels: tuple[str, ...]
    text: str
    is_by_function: bool = False


DECISIONS = Description(
    "offloop_decisions_total", "counter", ("strategy", "reason"), "Decisions on where a run executes; a run that moves has several."
)
FALLBACKS = Description(
    "offloop_fallbacks_total", "counter", ("reason",), "How often something executed elsewhere than asked for or planned."
)
RUN = Description(
    "offloop_run_seconds", "histogram", ("strategy",), "Seconds that runs took, measuring and waiting included.", True
)
WAIT = Description(
    "offloop_run_wait_seconds", "histogram", ("strategy",), "Seconds until the first item of a run came to a worker or a thread.", True
)
ITEMS = Description(
    "offloop_items_total", "counter", ("strategy", "outcome"), "Items of runs that are over: completed, failed or cancelled.", True
)
BUSY = Description("offloop_busy_seconds_total", "counter", ("strategy",), "Seconds that items ran, of runs that are over.", True)
RETRIES = Description("offloop_item_retries_total", "counter", (), "Items that ran again because their worker died.")
TIMEOUTS = Description("offloop_item_timeouts_total", "counter", (), "Items that executed for too long and were stopped.")
ABANDONED = Description("offloop_items_abandoned_total", "counter", (), "Items in threads that did not stop and were left to themselves.")
REFUSED = Description(
    "offloop_calls_refused_total", "counter", ("limit",), "Calls refused with Overloaded, as they are told of: at most once a second."
)
BOUND = Description(
    "offloop_bound_bytes_total", "counter", (), "About how many bytes bound in functions went to workers once for all items of a run."
)
START = Description("offloop_worker_start_seconds", "histogram", (), "Seconds until a new worker answered, worker_init included.")
CRASHES = Description(
    "offloop_worker_crashes_total", "counter", ("signal",), "Workers that died under work; signal is none of those that exited."
)
KILLS = Description("offloop_worker_kills_total", "counter", (), "Workers killed since what they did would not stop.")
RETIRED = Description("offloop_worker_retirements_total", "counter", (), "Workers replaced in good order.")

SESSIONS = Description("offloop_sessions", "gauge", (), "Sessions that the other gauges are of: open, or being drained.")
PENDING = Description("offloop_pending_calls", "gauge", (), "Calls that wait or execute.")
QUEUED = Description("offloop_queued_items", "gauge", (), "Items of runs under way that have no outcome yet.")
WORKERS = Description("offloop_workers", "gauge", (), "Worker processes that are up.")
UTILISATION = Description(
    "offloop_utilisation_ratio", "gauge", (), "Seconds that items ran as a share of what workers could have worked during runs, so far."
)
SHARED = Description("offloop_shared_bytes", "gauge", (), "Bytes that are stored for all workers, of objects after session.share.")
FAILING = Description("offloop_worker_start_failures", "gauge", (), "How often in a row the start of a worker has failed.")

GAUGES = (SESSIONS, PENDING, QUEUED, WORKERS, UTILISATION, SHARED, FAILING)
RECORDED = (
    *(DECISIONS, FALLBACKS, RUN, WAIT, ITEMS, BUSY, RETRIES, TIMEOUTS, ABANDONED, REFUSED, BOUND),
    *(START, CRASHES, KILLS, RETIRED),
)


def describe() -> tuple[Description, ...]:
    """Return what metrics there are, for a table of them."""
    return (*RECORDED, *GAUGES)
