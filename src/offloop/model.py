"""The values that offloop decides with: strategy, reason, host, workload, decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    FOREIGN_POOL = "foreign_pool", "This process is a worker of another library's pool, so the work runs right here."
    CI = "ci", "Under CI, auto stays serial unless told otherwise."
    NO_ITEMS = "no_items", "There is nothing to do."
    SINGLE_WORKER = "single_worker", "Only one worker is allowed or usable."
    THREADS_NEED_CONSENT = (
        "threads_need_consent",
        "Threads were asked for by a setting; running fn in several threads takes strategy=\"threads\" at the call.",
    )
    INNER_PARALLELISM = (
        "inner_parallelism",
        "The work brings threads, processes or a device of its own, so it runs alone with all the cores.",
    )
    LOCAL_NEVER = "local_never", "local=\"never\" keeps the work out of this process."
    HAS_CRASHED = "has_crashed", "The function has killed a worker before, so it doesn't run in this process."
    HAS_TIMEOUT = "has_timeout", "What may have to be stopped at its time limit doesn't run in this process."
    ABOVE_GRACE = "above_grace", "Items longer than grace_s could not be stopped in this process."
    MEASURING = "measuring", "The work is unknown, so its first items are run and timed."
    TOO_SMALL = "too_small", "The estimated gain of going parallel is below min_speedup."
    PROTECTS_LOOP = "protects_loop", "Items this long would hold the GIL beside the event loop, so a worker takes them."
    FASTER = "faster", "The estimated gain over the local thread reaches min_speedup."
    START_FAILED = "start_failed", "No worker process could be started."
    UNPICKLABLE = "unpicklable", "The function, an item or a result can't travel between processes."


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """What this machine lets this process use, and what working with processes costs on it.

    The measured values (`worker_start_s` and below) have defaults for before the first measurement, from a virtual
    machine with 2 cores; docs/explanation/decisions.md says which are measured, and how.

    Attributes:
        cores: Usable cores: affinity, quota and LOKY_MAX_CPU_COUNT taken together.
        physical: How many of them are cores of their own, rather than a second thread of one; None where not known.
        platform: As `sys.platform` has it.
        has_gil: Whether the interpreter has a global lock that is on.
        memory_bytes: What worker processes may take in all, the cgroup's limit included; None where not known.
        is_ci: Whether a CI system runs this process.
        is_worker: Whether this process is itself a worker of offloop.
        foreign_pool: The library whose worker this process is; None if it is nobody's.
        is_off: Whether the operator keeps everything in the local thread.
        lifts_ci: Whether the operator lets `auto` choose under CI too.
        worker_start_s: Seconds until a new worker answers.
        round_trip_s: Seconds for an empty chunk to a warm worker and back.
        thread_trip_s: Seconds for an empty chunk to a thread and back.
        bytes_per_s: Bytes that travel to a worker, or back, in a second: pickled, written, read and unpickled.
        worker_bytes: Private memory of a worker.
    """

    cores: int
    physical: int | None = None
    platform: str = "linux"
    has_gil: bool = True
    memory_bytes: int | None = None
    is_ci: bool = False
    is_worker: bool = False
    foreign_pool: str | None = None
    is_off: bool = False
    lifts_ci: bool = False
    worker_start_s: float = 0.25
    round_trip_s: float = 0.0001
    thread_trip_s: float = 0.00006
    bytes_per_s: float = 5e8
    worker_bytes: int = 25_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is known of the work, and of what it would have to wait for.

    Attributes:
        fn: Name of the function.
        n_items: How many items there are, or rows where fn gets them in blocks; None where it isn't known.
        n_done: How many of them have their outcome already.
        per_call: How many of them fn gets in one call.
        item_s: Seconds per item in one thread, measured or as the caller says; None where it isn't known.
        longest_s: Seconds that the longest call took; None where it isn't known.
        gil_held: Share of the time that the GIL is held, 0 to 1; None where it isn't known.
        payload_bytes: Bytes that an item brings with it.
        shared_bytes: Bytes that are bound in the function, so that they travel once for all items.
        result_bytes: Bytes that its result brings back.
        transport_s: Measured seconds that this process spends on sending an item and receiving its result; None:
            by `payload_bytes` and `result_bytes`.
        is_light: Whether sending the first items to a worker takes no more than a message.
        n_features: Columns of the items, where they are two-dimensional.
        idle_workers: Worker processes that are up and could take work now.
        max_workers: The most worker processes that there is room for now; None where nothing is known to limit them.
        local_backlog_s: Seconds of work that waits for the local thread.
        workers_backlog_s: Seconds of work that waits for the workers, summed over all.
        threads_backlog_s: Seconds of work that waits for the threads, summed over all.
        is_below_threads: Whether an item in one of a session's threads makes the call, so that it has the one thread below that.
        import_s: Seconds that workers will import before they can run the function.
        starting_s: For how long workers have been starting for this run.
        may_bridge: Whether the local thread may go on while workers start.
        forgone_s: Seconds that runs before have taken longer because no workers were up.
        has_crashed: Whether a worker has died under this function.
        inner: Where in its arguments the work brings parallelism of its own, for example ``rf.n_jobs=-1``.
        current: Where it executes now, or did last time; None if it never has.
        bias: By how much the last runs took longer than estimated, by strategy.
    """

    fn: str
    n_items: int | None
    n_done: int = 0
    per_call: int = 1
    item_s: float | None = None
    longest_s: float | None = None
    gil_held: float | None = None
    payload_bytes: float = 0.0
    shared_bytes: int = 0
    result_bytes: float = 0.0
    transport_s: float | None = None
    is_light: bool = False
    n_features: int | None = None
    idle_workers: int = 0
    max_workers: int | None = None
    local_backlog_s: float = 0.0
    workers_backlog_s: float = 0.0
    threads_backlog_s: float = 0.0
    is_below_threads: bool = False
    import_s: float = 0.0
    starting_s: float = 0.0
    may_bridge: bool = True
    forgone_s: float = 0.0
    has_crashed: bool = False
    inner: str | None = None
    current: Strategy | None = None
    bias: Mapping[Strategy, float] = field(default_factory=dict)

    @property
    def call_s(self) -> float:
        """Seconds that one call of fn takes; 0 where it isn't known."""
        return self.per_call * (self.item_s or 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Where a run executes and why.

    Attributes:
        strategy: The strategy chosen.
        reason: Why.
        workers: How many workers take part.
        fn: Name of the function.
        n_items: How many items, or rows for `run_batches`; None where it isn't known.
        n_features: Columns of the items, where they are two-dimensional.
        chunk_size: Items per chunk, or rows per block, where it is fixed; None where it follows measured time.
        item_s: Seconds per item, or row, that the choice rests on.
        gil_held: Share of the time that the work holds the GIL, 0 to 1; None where it isn't known.
        payload_bytes: Bytes that an item, or row, brings with it.
        shared_bytes: About how many bytes are bound in the function, so that they travel once for all items.
        result_bytes: Bytes that its result brings back.
        estimated_serial_s: Estimated seconds in the local thread.
        estimated_s: Estimated seconds with the strategy chosen.
        start_cost_s: Seconds that starting workers adds to that.
        forgone_s: Seconds that it would have taken less if workers had been up.
        platform: As `sys.platform` has it.
        requested: The strategy asked for.
        inner: Where in its arguments the work brings parallelism of its own.
        hint: What to write to have more; None where nothing would help.
    """

    strategy: Strategy
    reason: Reason
    workers: int
    fn: str = ""
    n_items: int | None = None
    n_features: int | None = None
    chunk_size: int | None = None
    item_s: float | None = None
    gil_held: float | None = None
    payload_bytes: float = 0.0
    shared_bytes: int = 0
    result_bytes: float = 0.0
    estimated_serial_s: float | None = None
    estimated_s: float | None = None
    start_cost_s: float = 0.0
    forgone_s: float = 0.0
    platform: str = "linux"
    requested: Strategy = Strategy.AUTO
    inner: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        count = "items" if self.n_items is None else f"{self.n_items} item{'s' * (self.n_items != 1)}"
        where = self.strategy.value + (f" with {self.workers} workers" if self.workers > 1 else "")
        why = f"{self.reason.value}: {self.inner}" if self.inner else self.reason.value
        hint = f" Hint: {self.hint}." if self.hint else ""
        return f"{self.fn}: {count} → {where} ({why})\n  {self.reason.sentence}{self._numbers()}{hint}"

    def _numbers(self) -> str:
        known = {
            "an item": self.item_s,
            "serial": self.estimated_serial_s,
            "as chosen": self.estimated_s,
            "of it to start workers": self.start_cost_s or None,
        }
        parts = [f"{name} {readable(seconds)}" for name, seconds in known.items() if seconds is not None]
        if self.gil_held is not None:
            parts.append(f"GIL held {self.gil_held:.0%}")
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
        submitted: Items taken in; completed + failed + cancelled.
        completed: Items that returned.
        failed: Items that raised or were lost with their worker.
        cancelled: Items stopped or dropped before they finished.
        retried: Items queued again after a worker died.
        fallbacks: How often something ran elsewhere than asked for or planned, by reason.
        decisions: How many runs executed where, by strategy.
        queued: Items of runs under way that have no outcome yet.
        busy_s: Seconds that items ran, summed over all lanes.
        utilisation_pct: busy_s as a share of what the workers of each run could have worked in its time.
        workers: Process ids of the workers that are up.
        workers_started: Worker processes started so far.
        workers_crashed: Worker processes that died under work.
        state: Of the session: ``not open``, ``open``, ``draining`` or ``closed``.
        pending: Calls that wait or execute.
        refused: Calls that were refused with `Overloaded`.
        start_failures: How often in a row the start of a worker has failed; 0 while that goes well.
        shared_bytes: Bytes that are stored for all workers, of objects after `share`.
    """

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    fallbacks: Mapping[Reason, int] = field(default_factory=dict)
    decisions: Mapping[Strategy, int] = field(default_factory=dict)
    queued: int = 0
    busy_s: float = 0.0
    utilisation_pct: float = 0.0
    workers: tuple[int, ...] = ()
    workers_started: int = 0
    workers_crashed: int = 0
    state: str = "open"
    pending: int = 0
    refused: int = 0
    start_failures: int = 0
    shared_bytes: int = 0
