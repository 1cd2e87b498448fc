"""The values that offloop decides with: strategy, reason, host, workload, decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Described(StrEnum):
    """A string enum whose members carry one human sentence each."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Described:
        """Make a member from its value and its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member


class Strategy(Described):
    """Where the items of a run execute."""

    AUTO = "auto", "Let offloop choose by measurement."
    SERIAL = "serial", "One after another in this process's one local thread, never on the loop."
    THREADS = "threads", "Side by side in threads of this process."
    PROCESSES = "processes", "Side by side in worker processes."


class Reason(Described):
    """Why a strategy was chosen, or left."""

    EXPLICIT = "explicit", "The call, the session or the environment names this strategy."
    OPERATOR_OFF = "operator_off", "OFFLOOP_PARALLEL=off keeps everything in the local thread."
    NESTED = "nested", "Already inside a worker, so the work runs right there."
    CI = "ci", "Under CI, auto stays serial unless told otherwise."
    NO_ITEMS = "no_items", "There is nothing to do."
    SINGLE_WORKER = "single_worker", "Only one worker is allowed or usable."
    THREADS_NEED_CONSENT = (
        "threads_need_consent",
        "Threads were asked for by a setting; running fn in several threads takes strategy=\"threads\" at the call.",
    )
    MEASURING = "measuring", "The work is unknown, so its first items are run and timed in the local thread."
    TOO_SMALL = "too_small", "The estimated gain of going parallel is below min_speedup."
    PROTECTS_LOOP = "protects_loop", "Items this long would hold the GIL beside the event loop, so a worker takes them."
    FASTER = "faster", "The estimated gain of going parallel reaches min_speedup."


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """What this machine lets this process use.

    Attributes:
        cores: Usable cores: affinity, quota and LOKY_MAX_CPU_COUNT taken together.
        is_ci: Whether a CI system runs this process.
        is_worker: Whether this process is itself a worker of offloop.
        is_off: Whether the operator keeps everything in the local thread.
        lifts_ci: Whether the operator lets `auto` choose under CI too.
        worker_start_s: Seconds until a new worker answers.
        round_trip_s: Seconds for an empty chunk to a warm worker and back.
    """

    cores: int
    is_ci: bool = False
    is_worker: bool = False
    is_off: bool = False
    lifts_ci: bool = False
    worker_start_s: float = 0.12
    round_trip_s: float = 0.0001


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is known of the work.

    Attributes:
        fn: Name of the function.
        n_items: How many items there are; None where it isn't known.
        n_done: How many of them have their outcome already.
        item_s: Measured seconds per item; None before the first measurement.
        idle_workers: Worker processes that are up and could take work now.
    """

    fn: str
    n_items: int | None
    n_done: int = 0
    item_s: float | None = None
    idle_workers: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Where a run executes and why.

    Attributes:
        strategy: The strategy chosen.
        reason: Why.
        workers: How many workers take part.
        fn: Name of the function.
        n_items: How many items; None where it isn't known.
        chunk_size: Items per chunk where it is fixed; None where it follows measured time.
        item_s: Measured seconds per item that the choice rests on.
        estimated_serial_s: Estimated seconds in the local thread.
        estimated_s: Estimated seconds with the strategy chosen.
        requested: The strategy asked for.
    """

    strategy: Strategy
    reason: Reason
    workers: int
    fn: str = ""
    n_items: int | None = None
    chunk_size: int | None = None
    item_s: float | None = None
    estimated_serial_s: float | None = None
    estimated_s: float | None = None
    requested: Strategy = Strategy.AUTO

    def __str__(self) -> str:
        count = "items" if self.n_items is None else f"{self.n_items} item{'s' * (self.n_items != 1)}"
        where = self.strategy.value + (f" with {self.workers} workers" if self.workers > 1 else "")
        return f"{self.fn}: {count} → {where} ({self.reason.value})\n  {self.reason.sentence}{self._numbers()}"

    def _numbers(self) -> str:
        known = {
            "an item": self.item_s,
            "serial": self.estimated_serial_s,
            "as chosen": self.estimated_s,
        }
        parts = [f"{name} {readable(seconds)}" for name, seconds in known.items() if seconds is not None]
        return f" Estimates: {', '.join(parts)}." if parts else ""


def readable(seconds: float) -> str:
    """Return a time with three digits and the unit that fits."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 0.9995:
            value = seconds * scale
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionStatistics:
    """A snapshot of what a session has done.

    Attributes:
        submitted: Items taken in.
        completed: Items that returned.
        failed: Items that raised or were lost with their worker.
        cancelled: Items stopped or dropped before they finished.
        retried: Items queued again after a worker died.
        busy_s: Seconds that items ran, summed over all lanes.
        workers: Process ids of the workers that are up.
        workers_started: Worker processes started so far.
        workers_crashed: Worker processes that died under work.
    """

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    busy_s: float = 0.0
    workers: tuple[int, ...] = ()
    workers_started: int = 0
    workers_crashed: int = 0
