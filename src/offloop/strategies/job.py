"""What all chunks of a run share: a function, how it is called and for whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..wire.frames import Flag
from ..wire.functions import PackedFunction
from ..worker.context import NO_CONTEXT, Context


class Initializer(Protocol):
    """worker_init for this process: runs once, whoever asks first."""

    def state(self) -> Any:
        """Return what worker_init returned, running it if that has not been done; raises what it raised."""
        ...


class TimeLimit(NamedTuple):
    """How long an item may execute.

    Attributes:
        seconds: So long.
        grace_s: How long it may then take to stop.
    """

    seconds: float
    grace_s: float


class Job:
    """What all chunks of a run share.

    Attributes:
        run: Number of the run, unique in this process.
        fn: The function, as it is called in this process.
        name: Its name in errors.
        flags: How items are passed to it, see `Flag`.
        initializer: worker_init for this process.
        limit: How long an item may execute; None for as long as it takes.
        context: The caller's log context, bound wherever items execute.
    """

    __slots__ = ("_travel", "context", "flags", "fn", "initializer", "limit", "name", "run")

    def __init__(
        self,
        run: int,
        fn: Callable[..., Any],
        name: str,
        flags: int,
        initializer: Initializer,
        limit: TimeLimit | None = None,
    ) -> None:
        self.run, self.fn, self.name, self.initializer, self.limit = run, fn, name, initializer, limit
        self.flags = flags | Flag.TIMED * (limit is not None)
        self.context = NO_CONTEXT
        self._travel = _Travel()

    def alone(self) -> Job:
        """Return the same job for one lane that has all the cores to itself."""
        job = self.within(self.context)
        job.flags |= Flag.ALONE
        return job

    def within(self, context: Context) -> Job:
        """Return the same job for a caller with this log context; what makes the function travel they have in common."""
        job = Job(self.run, self.fn, self.name, self.flags, self.initializer, self.limit)
        job.context, job._travel = context, self._travel
        return job

    @property
    def packed(self) -> PackedFunction | None:
        """The function as it travels; None until a lane needs it."""
        return self._travel.packed

    @packed.setter
    def packed(self, packed: PackedFunction | None) -> None:
        self._travel.packed = packed

    @property
    def by_value(self) -> bool:
        """Whether its code should travel, though it has a name."""
        return self._travel.n_stale > 1

    def distrust_name(self) -> None:
        """Note that the function's name leads to other code in a worker.

        A worker that was started before a reload is replaced, which is the better way: it gets all of the new modules.
        Where a fresh worker has other code too, the function is edited in this process only, so it travels by value.
        """
        self._travel.n_stale += 1

    @property
    def is_packed(self) -> bool:
        """Whether `packed` is as the function should travel."""
        return self.packed is not None and self.packed.by_value is self.by_value


class _Travel:
    """How a function travels, whoever calls it."""

    __slots__ = ("n_stale", "packed")

    def __init__(self) -> None:
        self.packed: PackedFunction | None = None
        self.n_stale = 0  # how many workers have found that its name leads to other code
