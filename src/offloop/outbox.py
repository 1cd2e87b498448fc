"""The sink of a stream: results that wait for its consumer, and how many more may be made meanwhile."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from operator import length_hint
from time import monotonic
from typing import Any

from anyio.lowlevel import checkpoint

from .changes import Changes
from .options import CallOptions
from .sensing.size import size_up
from .strategies.base import Outcomes

WINDOW_CHUNKS = 4  # the window of a stream, in chunks for each lane: one executes, one waits, two are with the consumer
_TURN_S = 0.001  # a consumer that never waits gives way to other tasks after so long
_MOST_PORTION = 64  # of results between two looks at the clock
MOST_ITEMS = 4096  # of a chunk in a stream: of items of 2 µs it takes 8 ms, and a window of these stays small


class Outbox:
    """Holds results until the consumer of a stream asks for them.

    In flight are the items that were taken from the source and that the consumer is not done with: it is done with one
    when it asks for the next. They are never more than the window.

    Args:
        options: Of the call: the window, the order, whether a failure ends the stream in its place or goes out like a result.
        limit_bytes: Returns how many bytes may be in flight, of so many that are wanted.
        payload_bytes: Returns about how many bytes an item brings with it.
        stop: Called with a failure that has ended the stream.

    Attributes:
        room_made: Called when there may be room for more items.
        start: Index of the first result of `batch`.
        batch: The results that the consumer takes now, one after another.
        error: What the stream ends with, once the results before it are gone.
    """

    keeps = True

    def __init__(
        self,
        options: CallOptions,
        limit_bytes: Callable[[int], int],
        payload_bytes: Callable[[], float],
        stop: Callable[[Exception], None],
    ) -> None:
        self.room_made: Callable[[], None] = nobody
        self.start = 0
        self.batch: Iterator[Any] = iter(())
        self.error: Exception | None = None
        self._ordered, self._raises, self._window = options.ordered, options.on_error == "raise", options.window
        self._limit_bytes, self._payload_bytes, self._stop = limit_bytes, payload_bytes, stop
        self._size = 0  # of `batch`
        self._first, self._offset, self._portion = 0, 0, 1
        self._values: list[Any] = []  # from which batches are taken, the next from `_offset` on; `_first` is the first one's index
        self._gives_way_at = math.inf
        self._n_before = 0  # results that went out before `batch`
        self._is_asking = True  # whether the consumer waits for the next one, so that it is done with the last
        self._ready: deque[tuple[int, list[Any]]] = deque()
        self._ahead: dict[int, Outcomes] = {}  # by their first index: those behind a result that is still missing
        self._next = 0  # index of the first that is missing, where the order is kept
        self._result_bytes = 0.0  # about how many bytes a result has
        self._has_failed = self._is_over = False
        self._news = Changes()

    # --- the run's side ----------------------------------------------------------------------------------------------

    def take_in(self, outcomes: Outcomes) -> None:
        """Take in what became of consecutive items."""
        if self._is_over or not outcomes.values:
            return
        n_bytes = size_up(outcomes.values[-1]).n_bytes
        self._result_bytes += (n_bytes - self._result_bytes) / (4 if self._result_bytes else 1)
        self._has_failed |= self._raises and bool(outcomes.failures)
        if not self._ordered:
            self._let_out(outcomes)
        else:
            self._ahead[outcomes.start] = outcomes
            while not self._is_over and (next_one := self._ahead.pop(self._next, None)) is not None:
                self._next += len(next_one.values)
                self._let_out(next_one)
        if self._ready or self._is_over:
            self._news.notify()

    def _let_out(self, outcomes: Outcomes) -> None:
        start, values, failures = outcomes
        if failures and self._raises:
            first = min(failures)
            if first > start:
                self._ready.append((start, values[: first - start]))
            self.finish(failures[first])
            self._stop(failures[first])
            return
        for index, error in failures.items():
            values[index - start] = error
        self._ready.append((start, values))

    def finish(self, error: Exception | None = None) -> None:
        """Note that no result comes any more; with what the stream ends, if with an error."""
        if not self._is_over:
            self._is_over, self.error = True, error
            self._ahead.clear()
            self._news.notify()

    def most_at_once(self, n_lanes: int) -> int:
        """Return how many items may travel together, so that each lane can have some, and some more wait."""
        return MOST_ITEMS if self._window is None else max(1, self._window // (2 * n_lanes))

    def room(self, n_taken: int, n_lanes: int, size: int) -> int:
        """Return how many items may be taken now; 0 unless it is worth it."""
        if self._has_failed or self._is_over:
            return 0  # what is taken already may come before the failure; nothing else is wanted
        size = min(size, self.most_at_once(n_lanes))
        window = usual = WINDOW_CHUNKS * n_lanes * size
        if self._window is not None:
            window = self._window if n_taken else min(self._window, usual)  # nothing is known of the first ones, nor their bytes
        n_open = n_taken - self.n_given
        room = self._room_by_bytes(n_open, window - n_open)
        return room if room >= min(size, max(1, window // 4)) or not n_open else 0

    def _room_by_bytes(self, n_open: int, room: int) -> int:
        """Return for how many of so many items there is room by their bytes; one at least where nothing is in flight."""
        item_bytes = self._payload_bytes() + self._result_bytes
        wanted = int(item_bytes * (n_open + room))
        limit = self._limit_bytes(wanted)
        if wanted <= limit:
            return room
        return max(int(not n_open), int(limit / item_bytes) - n_open)

    # --- the consumer's side -----------------------------------------------------------------------------------------

    @property
    def n_handed(self) -> int:
        """How many results the consumer has got."""
        return self._n_before + self._size - length_hint(self.batch)

    @property
    def n_given(self) -> int:
        """How many results the consumer is done with."""
        return max(0, self.n_handed - (not self._is_asking))

    @property
    def last_index(self) -> int:
        """Index of the item whose result was the last taken from `batch`."""
        return self.start + self._size - length_hint(self.batch) - 1

    async def has_more(self) -> bool:
        """Wait until there is something in `batch`; False when the stream is over.

        Raises:
            Exception: What it has ended with; once.
        """
        self._is_asking = True
        await self._give_way()
        while not length_hint(self.batch):
            if self._offset < len(self._values):
                self._cut()
            elif self._ready:
                (self._first, self._values), self._offset = self._ready.popleft(), 0
                self.room_made()
            elif self._is_over:
                return self._is_end()
            else:
                self.room_made()
                await self._news.wait()
        self._is_asking = False
        return True

    def _cut(self) -> None:
        """Make the next portion of what there is the batch."""
        values = self._values[self._offset : self._offset + self._portion]
        self._n_before += self._size
        self.start, self._size, self.batch = self._first + self._offset, len(values), iter(values)
        self._offset += self._size

    def _is_end(self) -> bool:
        """Return that there is nothing more; what the stream has ended with is raised instead, once."""
        error, self.error = self.error, None
        if error is not None:
            raise error
        return False

    async def _give_way(self) -> None:
        """Let other tasks have their turn, if the consumer has not waited for a while; take portions that suit its pace."""
        is_slow = monotonic() > self._gives_way_at
        self._portion = max(1, self._portion // 2) if is_slow else min(2 * self._portion, _MOST_PORTION)
        if is_slow:
            await checkpoint()
        self._gives_way_at = monotonic() + _TURN_S


def nobody() -> None:
    """Do nothing: no run is there yet."""
