"""What offloop tells its sinks: one frozen dataclass per event, units in the field names."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        event: Its name in logs.
        level: Its level in logs, as in `logging`.
    """

    event: ClassVar[str]
    level: ClassVar[int] = logging.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDecided(Event):
    """Where a run executes and why; the fields are those of `Decision`."""

    event: ClassVar[str] = "parallel.decision"

    strategy: str
    reason: str
    fn: str
    n_items: int | None
    workers: int
    chunk_size: int | None
    item_s: float | None
    estimated_serial_s: float | None
    estimated_s: float | None
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFellBack(Event):
    """A run does not execute as it was asked to."""

    event: ClassVar[str] = "parallel.fallback"
    level: ClassVar[int] = logging.WARNING

    from_strategy: str
    to_strategy: str
    reason: str
    fn: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """A run is over, whatever became of it: submitted = completed + failed + cancelled."""

    event: ClassVar[str] = "parallel.finished"

    fn: str
    tasks_submitted: int
    tasks_completed: int
    tasks_failed: int
    tasks_cancelled: int
    tasks_retried: int
    wall_s: float
    busy_s: float
    worker_utilisation_pct: float
    label: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied(Event):
    """A worker process died under work."""

    event: ClassVar[str] = "worker.crashed"
    level: ClassVar[int] = logging.WARNING

    fn: str
    exit_code: int | None
    signal: str | None
    item: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRetried(Event):
    """An item runs again because its worker died under it."""

    event: ClassVar[str] = "item.retried"
    level: ClassVar[int] = logging.WARNING

    fn: str
    item: int
    deaths: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersCapped(Event):
    """More workers were asked for than there are usable cores."""

    event: ClassVar[str] = "parallel.guidance"
    level: ClassVar[int] = logging.WARNING

    workers_asked: int
    usable_cores: int
    advice: str = "fewer workers than asked for will run; more than usable cores would only take turns"
