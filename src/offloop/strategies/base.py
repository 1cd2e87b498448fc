"""What a strategy is: a place to lease lanes from, on which chunks execute.

A new strategy is one file with a `Backend` in it; it passes the one contract suite in tests/contract/. The rules:

- A lane executes the chunks that were sent to it one after another, and reports on them in that order. The reports on a
  chunk cover its items from the front without a gap; the last one has `is_last` set. Items that have had no outcome by
  then were not begun: the chunk ran over its budget or was cancelled.
- `send` never blocks and never awaits; `receive` is cancellable and loses no report when it is cancelled.
- A lane that breaks raises `LaneLost` from `receive`, once, and is not used again.
- `abandon` stops what is in flight: it returns True when the lane is empty and may be leased again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from ..wire.buffers import Message
from .job import Initializer as Initializer
from .job import Job as Job
from .job import TimeLimit as TimeLimit


class Expired(NamedTuple):
    """What has executed for longer than it may.

    Attributes:
        begun: Index of the item, or what stands in its place on the status page; None for a chunk that was not begun.
        age_s: For how many seconds.
    """

    begun: int | None
    age_s: float


class Chunk:
    """Consecutive items that travel together.

    Attributes:
        start: Index of the first.
        items: The items.
        message: The items as they travel; None until a lane needs it.
        done: How many of them, from the front, have an outcome.
        deaths: How many workers have died under the first item.
        epoch: Its number on the lane that it was sent to.
        limit: How long each item may execute; None for as long as it takes.
        expired: What of it has executed for longer.
        is_watched: Whether to tell how the GIL was held meanwhile.
        encode_s: Seconds that pickling it took.
        sent_at: When it was sent, by the monotonic clock.
        others: Held by whoever may go on with the items behind the first: the lane or the run; None if the lane may.
    """

    __slots__ = (
        *("deaths", "done", "encode_s", "epoch", "expired", "is_watched", "items", "limit", "message", "others"),
        *("sent_at", "start"),
    )

    def __init__(self, start: int, items: Sequence[Any], deaths: int = 0) -> None:
        self.start, self.items, self.deaths = start, items, deaths
        self.message: Message | None = None
        self.done = self.epoch = 0
        self.limit: TimeLimit | None = None
        self.expired: Expired | None = None
        self.is_watched = False
        self.others: threading.Lock | None = None
        self.encode_s = self.sent_at = 0.0

    @property
    def end(self) -> int:
        """Index behind the last item."""
        return self.start + len(self.items)

    def take_others(self) -> Chunk | None:
        """Take back all items but the first, if the lane has not gone on to them; only where `others` is set."""
        if self.others is None or len(self.items) == 1 or not self.others.acquire(blocking=False):
            return None
        others = self.part(self.start + 1, self.end)
        self.items = self.items[:1]
        return others

    def part(self, start: int, stop: int) -> Chunk:
        """Return some of the items as a chunk of their own; `start` and `stop` are indexes of items."""
        if start == self.start and stop == self.end:
            return self
        part = Chunk(start, self.items[start - self.start : stop - self.start])
        if self.message is not None:  # the snapshot that was taken of the items when they were sent first
            part.message = self.message.part(start - self.start, stop - self.start)
        return part


class Outcomes(NamedTuple):
    """What became of consecutive items.

    Attributes:
        start: Index of the first.
        values: What they returned; None where one failed.
        failures: What the others raised, by index.
    """

    start: int
    values: list[Any]
    failures: dict[int, Exception]


class Refused(NamedTuple):
    """A lane can't execute a chunk as it was sent; nothing of it ran.

    Attributes:
        by_value: The function must be sent as code: what its name leads to over there is another one.
        one_by_one: The items must be sent singly: together they can't be rebuilt.
        error: The chunk can't be executed at all.
        retire: The worker that refused must not be used again.
    """

    by_value: bool = False
    one_by_one: bool = False
    error: Exception | None = None
    retire: bool = False


class Measured(NamedTuple):
    """What the last report on a chunk tells besides outcomes.

    Attributes:
        longest_s: Seconds that its longest item took.
        gil_held: Share of the time that the GIL was held, 0 to 1; None if it wasn't watched, or too short to tell.
        stall_s: The longest that another thread had to wait for the GIL.
        result_bytes: Bytes that the outcomes came in; 0 from a thread.
        in_file: How many of them came in a memory file.
    """

    longest_s: float = 0.0
    gil_held: float | None = None
    stall_s: float = 0.0
    result_bytes: int = 0
    in_file: int = 0


class Report(Protocol):
    """News of the chunk that is first in flight on a lane."""

    @property
    def is_last(self) -> bool:
        """Whether this is the last news of the chunk."""
        ...

    @property
    def is_inline(self) -> bool:
        """Whether `outcomes` is quick and runs nobody's code, so that it may be called on the loop."""
        ...

    @property
    def elapsed_s(self) -> float:
        """Seconds that the chunk has run so far."""
        ...

    @property
    def n_items(self) -> int:
        """How many items have their outcome in here."""
        ...

    @property
    def measured(self) -> Measured:
        """What was measured of the chunk; told with the last report."""
        ...

    @property
    def refused(self) -> Refused | None:
        """Why the chunk was not executed, if so."""
        ...

    def outcomes(self) -> Outcomes:
        """Unpack what became of the items."""
        ...


class LaneLost(Exception):
    """The lane broke under what was in flight.

    Attributes:
        begun: For each chunk in flight, in order: the index of the item that it was on, or what stands in its place, as
            the status page has it; None if it was not begun.
        exit_code: How the worker ended, if that is known.
        cause: Why, if that is known.
        dump: What faulthandler wrote.
    """

    def __init__(
        self, begun: list[tuple[Chunk, int | None]], exit_code: int | None = None, cause: str = "", dump: str = ""
    ) -> None:
        super().__init__(begun, exit_code)
        self.begun, self.exit_code, self.cause, self.dump = begun, exit_code, cause, dump


class PoolFull(Exception):
    """There is no room for another lane now; those that there are will do."""


class Place(NamedTuple):
    """How somebody waits for a lane.

    Attributes:
        flow: Whose share of the lanes the turn counts against: a label, a run, or None for all single calls together.
        cost_s: Seconds that the turn is estimated to take.
        is_interactive: Whether somebody waits for the answer, rather than for many of them.
        until: Whoever still waits then, by the monotonic clock, gets no lane.
        latest: Whoever still waits then goes behind all who can be done in time: they presumably can't.
    """

    flow: Hashable = None
    cost_s: float = 0.001
    is_interactive: bool = True
    until: float = float("inf")
    latest: float = float("inf")


ORDINARY = Place()  # that of a single call without a label or a limit


class TooLate(Exception):
    """No lane came free in the time that a `Place` allows; raised by entering a lease."""


class Lane(Protocol):
    """A place where chunks execute one after another."""

    in_flight: deque[Chunk]

    @property
    def is_usable(self) -> bool:
        """Whether more may be sent: the lane is neither broken nor killed nor retired."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether nothing is under way on it, so that another may lease it."""
        ...

    @property
    def n_finished(self) -> int:
        """How many items of the chunk that is first in flight have been finished so far, as its status page has it."""
        ...

    @property
    def fraction(self) -> float:
        """How much of the item that it is on is done, 0 to 1, as far as the item says so."""
        ...

    @property
    def gil_held(self) -> float | None:
        """Share of the time that the GIL has been held by a watched chunk under way; None where it can't be seen."""
        ...

    def send(self, job: Job, chunk: Chunk, budget_s: float) -> None:
        """Have a chunk executed, for at most `budget_s` seconds (0: no limit) before it hands the rest back.

        In a thread these count from now, so that a chunk behind a long item comes back without having begun.
        """
        ...

    async def receive(self) -> Report:
        """Return the next news; the chunk leaves `in_flight` with its last."""
        ...

    async def abandon(self, grace_s: float) -> bool:
        """Stop what is in flight, by the steps of deciding/stopping.py, and say whether the lane may be leased again."""
        ...

    def watch(self) -> None:
        """See how the GIL is held from now on until the end of the chunk that is first in flight, where it can be seen."""
        ...

    def break_off(self) -> None:
        """Have `receive` raise LaneLost instead of waiting on, once, so that its caller can `abandon` what is in flight."""
        ...

    def retire(self) -> None:
        """Let nothing more be sent: what is in flight is still answered, then the lane is killed instead of leased."""
        ...

    def kill(self) -> None:
        """End the lane at once, whatever it is doing."""
        ...


class Backend(Protocol):
    """A strategy's lanes.

    Attributes:
        is_remote: Whether items leave this process, so that they must be pickled.
        backlog_s: Seconds of work that calls under way are estimated to bring, waiting or executing.
        interactive_s: How much of that is interactive.
        n_shares: How many calls bring it.
        n_spawning: Lanes whose start keeps this process busy at the moment.
    """

    is_remote: bool
    backlog_s: float
    interactive_s: float
    n_shares: int
    n_spawning: int

    @property
    def limit(self) -> int:
        """The most lanes that execute at a time."""
        ...

    @property
    def n_idle(self) -> int:
        """How many lanes are up and free."""
        ...

    @property
    def has_waiters(self) -> bool:
        """Whether someone waits for a lane, so that a holder should end its turn."""
        ...

    @property
    def has_interactive_waiters(self) -> bool:
        """Whether someone interactive does, so that a holder that isn't should end its turn at once."""
        ...

    def lease(
        self, grace_s: float, job: Job | None = None, chunk: Chunk | None = None, budget_s: float = 0.0,
        place: Place = ORDINARY,
    ) -> AbstractAsyncContextManager[Lane]:
        """Lease a lane, and send a chunk as soon as there is one; leaving the context abandons what is in flight."""
        ...

    async def aclose(self) -> None:
        """End all lanes and wait until nothing of them is left."""
        ...
