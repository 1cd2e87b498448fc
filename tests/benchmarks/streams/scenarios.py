"""The scenarios of streams by the name of their figure."""

from collections.abc import Awaitable, Callable

from ..contenders.base import Contender
from ..entrants import Assignment, Sample
from .memory import stream_memory
from .read_ahead import read_ahead
from .slow_consumer import slow_consumer
from .throughput import ITEMS, throughput

STREAMS: dict[str, Callable[[Contender, Assignment], Awaitable[Sample]]] = dict.fromkeys(ITEMS, throughput)

STREAMS_FROM_SCRATCH: dict[str, Callable[[Assignment], Awaitable[Sample]]] = {
    "stream_memory": stream_memory,
    "slow_consumer": slow_consumer,
    "read_ahead": read_ahead,
}
