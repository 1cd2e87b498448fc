"""Watching how long the items of a lane execute, and stopping those that take too long.

Nothing runs for it: whoever waits for news of the lane looks at the status page when an item may have become too old.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from ..deciding.stopping import Act, Stopping
from ..strategies.base import Chunk, Expired
from ..wire.status_page import (
    ITEM,
    LATE,
    LOADING,
    NOTHING,
    OVER,
    PACKED,
    SINCE,
    UNPACKING,
    item_base,
    last_begun,
)

LOAD_S = 30.0  # what unpickling the function may take besides, since it may import: a guess
MOVE_S = 10.0  # what large arguments may take on their way, and large results, until the worker counts as stuck: a guess


class Watchdog:
    """Watches the chunk that is first in flight on a lane.

    Args:
        words: The status page of the lane.
        interrupt: Sends an interrupt.
    """

    __slots__ = ("_epoch", "_interrupt", "_seen_at", "_stopping", "_words")

    def __init__(self, words: memoryview, interrupt: Callable[[], object]) -> None:
        self._words, self._interrupt = words, interrupt
        self._stopping: Stopping | None = None
        self._epoch, self._seen_at = 0, 0.0

    def look(self, chunk: Chunk) -> float | None:
        """Do what is to be done now; return in how many seconds to look again, None to give the lane up."""
        now, limit = monotonic(), chunk.limit
        assert limit is not None
        if chunk.epoch != self._epoch:
            self._epoch, self._seen_at, self._stopping = chunk.epoch, now, None
        begun = last_begun(self._words[ITEM], chunk.epoch)
        if self._stopping is not None and self._has_gone_on(chunk, begun):
            self._stopping = chunk.expired = None
            self._words[LATE] = NOTHING
        if self._stopping is None:
            age_s, most_s = self._age(begun, now, limit.seconds)
            if age_s < most_s:
                return min(most_s - age_s, limit.seconds)  # what comes next may begin right now
            chunk.expired = Expired(begun, age_s)
            if begun is None:
                return None
            self._words[LATE] = item_base(chunk.epoch) + begun
            self._stopping = Stopping(now, limit.grace_s)
        step = self._stopping.step(now)
        if step.act is Act.GIVE_UP:
            return None
        if step.act is Act.INTERRUPT:
            self._interrupt()
        return step.wait_s

    def over(self, chunk: Chunk) -> None:
        """Note that a chunk is over: what was late is no longer, and its number may come again."""
        if chunk.expired is not None:
            self._words[LATE] = NOTHING

    @staticmethod
    def _has_gone_on(chunk: Chunk, begun: int | None) -> bool:
        """Whether what was to stop came to an end by itself, and another item is executed."""
        assert chunk.expired is not None
        return begun is not None and begun != OVER and not begun & PACKED and begun != chunk.expired.begun

    def _age(self, begun: int | None, now: float, limit_s: float) -> tuple[float, float]:
        """Return for how long what the page says has lasted, and how long it may."""
        if begun is None:
            return now - self._seen_at, limit_s + MOVE_S
        age_s = now - self._words[SINCE] / 1e9
        if begun == LOADING:
            return age_s, limit_s + LOAD_S
        is_moving = begun & PACKED and begun != UNPACKING
        return age_s, limit_s + MOVE_S if is_moving else limit_s
