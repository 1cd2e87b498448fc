"""What offloop tells its sinks: one frozen dataclass per event, units in the field names."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    No event carries an argument's or a result's value: types, sizes and names only. What users print is theirs.

    Attributes:
        event: Its name in logs.
        level: Its level in logs, as in `logging`.
    """

    event: ClassVar[str]
    level: ClassVar[int] = logging.INFO

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDecided(Event):
    """Where a run executes and why; told again if the run moves elsewhere as it goes.

    The fields are those of `Decision`, and besides:

    Attributes:
        executor_type: What executes the items: ``thread`` (the local one), ``threads``, or ``loky`` for processes.
        label: The run's name, as the call gives it.
    """

    event: ClassVar[str] = "parallel.decision"

    strategy: str
    reason: str
    fn: str
    n_items: int | None
    n_features: int | None
    workers: int
    chunk_size: int | None
    item_s: float | None
    payload_bytes: float
    shared_bytes: int
    result_bytes: float
    gil_held: float | None
    estimated_serial_s: float | None
    estimated_s: float | None
    start_cost_s: float
    platform: str
    executor_type: str
    hint: str | None
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFellBack(Event):
    """Something executes elsewhere than it was asked to, or was going to.

    Attributes:
        from_strategy: Where it was to execute.
        to_strategy: Where it executes.
        reason: Why.
        fn: Name of the function.
        error: What went wrong: the type of the error and the path to what it is about; None where nothing did.
        n_items: How many items are concerned; None where it isn't known.
    """

    event: ClassVar[str] = "parallel.fallback"
    level: ClassVar[int] = logging.WARNING

    from_strategy: str
    to_strategy: str
    reason: str
    fn: str
    error: str | None = None
    n_items: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """A run is over, whatever became of it: submitted = completed + failed + cancelled.

    Attributes:
        fn: Name of the function.
        strategy: Where the items executed, at the end.
        tasks_submitted: Items taken in.
        tasks_completed: Items that returned.
        tasks_failed: Items that raised or were lost with their worker.
        tasks_cancelled: Items stopped or dropped before they finished.
        tasks_retried: Items queued again after a worker died.
        wall_s: Seconds that it took, measuring and waiting included.
        wait_s: Seconds of it until its first item came to a worker or a thread; all of them if none did.
        busy_s: Seconds that items ran, summed over all workers.
        worker_utilisation_pct: busy_s ÷ (wall_s × workers), times 100.
        estimated_s: Seconds that the decision expected from then on; to be read beside wall_s.
        speedup_estimate: busy_s ÷ wall_s: how many items ran at once on average; the gain over one thread is no more than that.
        peak_in_flight: Most items that were with workers at a time.
        label: The run's name, as the call gives it.
    """

    event: ClassVar[str] = "parallel.finished"

    fn: str
    strategy: str
    tasks_submitted: int
    tasks_completed: int
    tasks_failed: int
    tasks_cancelled: int
    tasks_retried: int
    wall_s: float
    wait_s: float
    busy_s: float
    worker_utilisation_pct: float
    estimated_s: float | None
    speedup_estimate: float
    peak_in_flight: int
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFinished(Event):
    """A unit of a branch is over: a call of its own, or one of those that the branch is split into.

    Attributes:
        branch: The branch's name.
        unit: The unit's number in the branch, from 0 on.
        n_units: How many the branch has.
        fn: Name of the function.
        strategy: Where it executed.
        reason: Why there.
        inner: Where it brings parallelism or a device of its own, so that it ran alone; None if it doesn't.
        wait_s: Seconds from the start of the run until it began.
        wall_s: Seconds from then to its end.
        error: The type of what it raised; ``cancelled`` if it was stopped; None if it returned.
        label: The run's name, as the call gives it.
    """

    event: ClassVar[str] = "unit.finished"

    branch: str
    unit: int
    n_units: int
    fn: str
    strategy: str
    reason: str
    inner: str | None
    wait_s: float
    wall_s: float
    error: str | None
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """A worker process is up.

    Attributes:
        pid: Its process id.
        start_s: Seconds until it answered, worker_init included.
    """

    event: ClassVar[str] = "worker.started"

    pid: int
    start_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied(Event):
    """A worker process died under work.

    Attributes:
        fn: Name of the function that it ran.
        exit_code: As `os.waitstatus_to_exitcode` gives it: negative for a signal; None where it isn't known.
        signal: Name of the signal that ended it; None if it exited by itself.
        item: Index of the item that it was on; None where it was between items.
        cause: What is known of why; empty where that can only be guessed.
    """

    event: ClassVar[str] = "worker.crashed"
    level: ClassVar[int] = logging.WARNING

    fn: str
    exit_code: int | None
    signal: str | None
    item: int | None
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerKilled(Event):
    """A worker process was killed, since what it was doing did not stop in time.

    Attributes:
        pid: Its process id.
        why: What it was killed for.
    """

    event: ClassVar[str] = "worker.killed"
    level: ClassVar[int] = logging.WARNING

    pid: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRetired(Event):
    """A worker process ends in good order; another takes its place when one is needed.

    Attributes:
        pid: Its process id.
        why: What it is retired for.
    """

    event: ClassVar[str] = "worker.retired"

    pid: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRetried(Event):
    """An item runs again because its worker died under it.

    Attributes:
        fn: Name of the function.
        item: Index of the item; 0 for a single call.
        deaths: How many workers have died under it so far.
    """

    event: ClassVar[str] = "item.retried"
    level: ClassVar[int] = logging.WARNING

    fn: str
    item: int
    deaths: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTimedOut(Event):
    """An item executed for longer than it may and was stopped.

    Attributes:
        fn: Name of the function.
        item: Index of the item; 0 for a single call.
        age_s: Seconds that it had executed.
        limit_s: Seconds that it was allowed.
        is_killed: Whether it did not stop within ``grace_s``, so that its worker was killed, or its thread abandoned.
    """

    event: ClassVar[str] = "item.timed_out"
    level: ClassVar[int] = logging.WARNING

    fn: str
    item: int
    age_s: float
    limit_s: float
    is_killed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAbandoned(Event):
    """An item in a thread of this process was to stop and did not within ``grace_s``: it goes on, and nobody waits for it.

    Its thread is used no more; a fresh one takes its place. The same is told of a handler that answers an item's question.

    Attributes:
        fn: Name of the function; of a handler after ``answer=``.
        item: Index of the item; 0 for a single call; None where it was between items, and of a handler.
        grace_s: How long it had to stop.
    """

    event: ClassVar[str] = "item.abandoned"
    level: ClassVar[int] = logging.WARNING

    fn: str
    item: int | None
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOverloaded(Event):
    """A session has refused calls; told at most once a second.

    Attributes:
        fn: Name of the function of the last one.
        why: The limit that it would have exceeded, as `Overloaded` has it.
        pending: Calls that waited or executed.
        limit: Of calls, of bytes, or of seconds.
        retry_after_s: After so many seconds it is worth trying again.
        n_refused: How many calls were refused since this was told last.
        label: The last call's name, as the call gives it.
    """

    event: ClassVar[str] = "session.overloaded"
    level: ClassVar[int] = logging.WARNING

    fn: str
    why: str
    pending: int
    limit: float
    retry_after_s: float
    n_refused: int
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDrained(Event):
    """A session has finished what it had admitted, or has given up waiting for that.

    Attributes:
        is_done: Whether everything was finished in time.
        n_left: Items of runs still under way that have no outcome yet.
        wall_s: Seconds that it took.
    """

    event: ClassVar[str] = "session.drained"

    is_done: bool
    n_left: int
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance(Event):
    """Advice on how to have more, told once per process for each topic.

    Attributes:
        topic: What it is about; the name of the option or setting where there is one.
        advice: What to write, and what that would bring.
        fn: Name of the function that it was measured on; None where it is about no function.
    """

    event: ClassVar[str] = "parallel.guidance"

    topic: str
    advice: str
    fn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersCapped(Guidance):
    """Guidance once per session: more workers were asked for than there are usable cores.

    Attributes:
        workers_asked: How many were asked for.
        usable_cores: How many cores there are to use.
    """

    level: ClassVar[int] = logging.WARNING

    topic: str = "workers"
    advice: str = "fewer workers than asked for will run; more than usable cores would only take turns"
    workers_asked: int
    usable_cores: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOutput(Event):
    """A line that code in a worker process has printed.

    Where structlog isn't configured it is printed here, behind a tag such as ``[worker 4242 item 17]``.

    Attributes:
        pid: The worker's process id.
        item: Index of the item that it was on; 0 for a single call; None where it was on none, as in worker_init.
        stream: ``stdout`` or ``stderr``.
        text: The line as it was printed, without its end; one that is very long comes in pieces.
    """

    event: ClassVar[str] = "worker.output"

    pid: int
    item: int | None
    stream: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOutputDropped(Event):
    """Code in a worker process has logged or printed more than could be sent; the oldest was dropped.

    Attributes:
        pid: Its process id.
        n_dropped: How many records and lines, since this was told last.
    """

    event: ClassVar[str] = "worker.output_dropped"
    level: ClassVar[int] = logging.WARNING

    pid: int
    n_dropped: int
