"""What all chunks of a run share: a function, how it is called and for whom."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context as ContextVars
from contextvars import copy_context
from typing import Any, NamedTuple, Protocol

from ..wire.frames import Flag
from ..wire.functions import PackedFunction
from ..worker.asking import AT_THE_CALLERS
from ..worker.context import NO_CONTEXT, Context
from ..worker.task import current


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


class Answer(NamedTuple):
    """How a caller answers questions.

    Attributes:
        handler: Returns the answer to one.
        context: Where it is called: the caller's.
    """

    handler: Callable[[Any], Any]
    context: ContextVars

    def to(self, question: Any) -> Any:
        """Return the answer to a question; whatever the handler raises is raised."""
        before, current.task = current.task, AT_THE_CALLERS
        try:
            return self.context.run(self.handler, question)
        finally:
            current.task = before


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
        answer: Answers the questions of its items; None where nobody does.
    """

    __slots__ = ("_travel", "answer", "context", "flags", "fn", "initializer", "limit", "name", "run")

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
        self.answer: Answer | None = None
        self._travel = _Travel()

    def alone(self) -> Job:
        """Return the same job for one lane that has all the cores to itself."""
        job = self.within(self.context)
        job.flags |= Flag.ALONE
        return job

    def within(self, context: Context) -> Job:
        """Return the same job for a caller with this log context; what makes the function travel they have in common."""
        job = Job(self.run, self.fn, self.name, self.flags, self.initializer, self.limit)
        job.context, job.answer, job._travel = context, self.answer, self._travel
        return job

    def answered_by(self, handler: Callable[[Any], Any]) -> Job:
        """Return the same job for a caller who answers its questions, in the context of just now."""
        job = self.within(self.context)
        job.answer = Answer(handler, copy_context())
        job.flags |= Flag.ANSWERED
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
