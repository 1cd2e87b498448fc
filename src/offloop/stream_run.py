"""The run of a stream."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from .map_steering import MapSteering
from .outbox import Outbox
from .pool.waiting import poster
from .records import Records, Whole
from .sources import Source
from .strategies.base import Job

_DROPPED = "the stream was dropped without being left; hold it by `async with`"


class StreamRun:
    """The run of a stream, as a task beside its consumer.

    Args:
        steering: Decides for it.
        job: What its chunks share.
        source: Its items.
        outbox: Where results wait.
        records: The session's books.

    Attributes:
        name: The function's name.
    """

    def __init__(self, steering: MapSteering, job: Job, source: Source, outbox: Outbox, records: Records) -> None:
        self.name = steering.name
        self._steering, self._job, self._source, self._outbox, self._records = steering, job, source, outbox, records

    @property
    def n_taken(self) -> int:
        """How many items were taken from the source."""
        return self._steering.tally.submitted + (self._source.n_ready or 0)

    async def execute(self) -> None:
        """Execute all items; what ends the run before its time ends the stream."""
        steering, outbox = self._steering, self._outbox
        try:
            with self._records.whole(Whole(steering.name, steering.label)):  # with what the source does as it is read
                await steering.execute(self._job, self._source, outbox)
            outbox.finish()
        except Exception as error:
            outbox.finish(error)
        finally:  # by leaving: there may be others who wait for a result
            outbox.finish(RuntimeError("the stream was left; iterate over its results inside of its context"))

    def stop(self, loop: Any) -> None:
        """End it, from any thread; `loop` is the event loop that it runs on."""
        with suppress(RuntimeError):  # that is closed
            poster(loop)(partial(self._steering.stop, RuntimeError(_DROPPED)))
